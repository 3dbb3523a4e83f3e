// SPDX-License-Identifier: GPL-2.0

//! Tables for a terminal, which are Markdown as well: documents have them as they were printed.

use comfy_table::{presets::ASCII_MARKDOWN, Row, Table};

pub fn table(header: impl Into<Row>) -> Table {
    let mut table = Table::new();
    table.load_preset(ASCII_MARKDOWN).set_header(header);
    table
}
