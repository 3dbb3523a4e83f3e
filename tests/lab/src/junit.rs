// SPDX-License-Identifier: GPL-2.0

//! JUnit's XML, which xfstests calls xunit: written for CI systems.

use crate::ktap::{Counts, Status};
use quick_xml::events::{BytesDecl, BytesText, Event};
use quick_xml::Writer;
use std::io;

pub type Properties = Vec<(String, String)>;

pub struct Suite {
    pub name: String,
    pub seconds: f64,
    pub properties: Properties,
    pub cases: Vec<Case>,
}

pub struct Case {
    /// Where it belongs, with dots.
    pub class: String,
    pub name: String,
    pub seconds: Option<f64>,
    pub properties: Properties,
    pub status: Status,
    /// Why it failed or was skipped.
    pub why: String,
}

/// XML has no way to write control characters.
fn clean(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '\n' | '\t' => c,
            c if c.is_control() => '?',
            c => c,
        })
        .collect()
}

type Out = Writer<Vec<u8>>;

pub fn write(suites: &[Suite]) -> io::Result<Vec<u8>> {
    let mut out = Writer::new_with_indent(Vec::new(), b' ', 2);
    out.write_event(Event::Decl(BytesDecl::new("1.0", Some("UTF-8"), None)))?;
    out.create_element("testsuites")
        .write_inner_content(|out| suites.iter().try_for_each(|suite| write_suite(out, suite)))?;
    let mut xml = out.into_inner();
    xml.push(b'\n');
    Ok(xml)
}

fn write_suite(out: &mut Out, suite: &Suite) -> io::Result<()> {
    let mut counts = Counts::default();
    suite.cases.iter().for_each(|case| counts.add(case.status));
    out.create_element("testsuite")
        .with_attribute(("name", clean(&suite.name).as_str()))
        .with_attribute(("tests", suite.cases.len().to_string().as_str()))
        .with_attribute(("failures", counts.failed.to_string().as_str()))
        .with_attribute(("skipped", counts.skipped.to_string().as_str()))
        .with_attribute(("time", format!("{:.1}", suite.seconds).as_str()))
        .write_inner_content(|out| {
            write_properties(out, &suite.properties)?;
            suite
                .cases
                .iter()
                .try_for_each(|case| write_case(out, case))
        })?;
    Ok(())
}

fn write_properties(out: &mut Out, properties: &Properties) -> io::Result<()> {
    if properties.is_empty() {
        return Ok(());
    }
    out.create_element("properties")
        .write_inner_content(|out| {
            for (name, value) in properties {
                out.create_element("property")
                    .with_attribute(("name", name.as_str()))
                    .with_attribute(("value", clean(value).as_str()))
                    .write_empty()?;
            }
            Ok(())
        })?;
    Ok(())
}

fn write_case(out: &mut Out, case: &Case) -> io::Result<()> {
    let mut element = out
        .create_element("testcase")
        .with_attribute(("classname", clean(&case.class).as_str()))
        .with_attribute(("name", clean(&case.name).as_str()));
    if let Some(seconds) = case.seconds {
        element = element.with_attribute(("time", format!("{seconds:.1}").as_str()));
    }
    if case.status == Status::Pass && case.properties.is_empty() {
        element.write_empty()?;
        return Ok(());
    }
    element.write_inner_content(|out| {
        write_properties(out, &case.properties)?;
        let why = clean(&case.why);
        let first = why.lines().next().unwrap_or_default();
        match case.status {
            Status::Pass => {}
            Status::Skip => {
                out.create_element("skipped")
                    .with_attribute(("message", why.as_str()))
                    .write_empty()?;
            }
            Status::Fail => {
                out.create_element("failure")
                    .with_attribute(("message", first))
                    .write_text_content(BytesText::new(&why))?;
            }
        }
        Ok(())
    })?;
    Ok(())
}
