// SPDX-License-Identifier: GPL-2.0

//! JUnit's XML, which xfstests calls xunit: for CI systems.

use crate::ktap::{Status, Test};
use crate::results::Suite;
use anyhow::Result;
use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};
use std::time::Duration;

/// A suite with a case for every leaf.
pub fn write(name: &str, suites: &[Suite]) -> Result<String> {
    let mut report = Report::new(name);
    for suite in suites {
        let mut out = TestSuite::new(suite.test.name.as_str());
        if let Some(seconds) = suite.test.seconds {
            out.set_time(Duration::from_secs_f64(seconds));
        }
        out.add_properties(pairs(&suite.test));
        leaves(&suite.test, "", &mut out);
        report.add_test_suite(out);
    }
    Ok(report.to_string()?)
}

fn pairs(test: &Test) -> impl Iterator<Item = (&str, &str)> {
    let all = test.properties.iter();
    all.map(|(name, value)| (name.as_str(), value.as_str()))
}

/// `path` is where it belongs, with dots.
fn leaves(test: &Test, path: &str, out: &mut TestSuite) {
    if test.children.is_empty() {
        out.add_test_case(case(test, path));
        return;
    }
    let path = match path {
        "" => test.name.clone(),
        path => format!("{path}.{}", test.name),
    };
    for child in &test.children {
        leaves(child, &path, out);
    }
}

fn case(test: &Test, path: &str) -> TestCase {
    let why = test.notes.join("\n");
    let first = test.notes.first().map(String::as_str).unwrap_or_default();
    let status = match test.status {
        Status::Pass => TestCaseStatus::success(),
        Status::Fail => {
            let mut failure = TestCaseStatus::non_success(NonSuccessKind::Failure);
            failure.set_message(first).set_description(why);
            failure
        }
        Status::Skip => {
            let mut skipped = TestCaseStatus::skipped();
            skipped.set_message(first);
            skipped
        }
    };
    let mut case = TestCase::new(test.name.as_str(), status);
    case.set_classname(path).add_properties(pairs(test));
    if let Some(seconds) = test.seconds {
        case.set_time(Duration::from_secs_f64(seconds));
    }
    case
}
