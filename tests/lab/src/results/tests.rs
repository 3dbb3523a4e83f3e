// SPDX-License-Identifier: GPL-2.0

use super::*;
use crate::kvm::Accel;
use crate::outcome::Outcome;
use std::collections::BTreeMap;

fn record() -> Record {
    let numbers = |name: &str| BTreeMap::from([(name.to_string(), 3)]);
    Record {
        kernel: "broken".to_string(),
        build: "broken-0123".to_string(),
        release: Some("6.12.117".to_string()),
        scenario: "a guest".to_string(),
        outcome: Outcome::LabError,
        why: "QEMU ended".to_string(),
        tests: Counts::default(),
        exit_status: None,
        verdicts: numbers("unreferenced"),
        stats: BTreeMap::from([("program".to_string(), numbers("wake"))]),
        hooks: BTreeMap::new(),
        kernel_said: None,
        kernel_said_at: Some(1.5),
        accel: Accel::Tcg,
        qemu: "10.0.2".to_string(),
        memory: "2G".to_string(),
        append: Vec::new(),
        live: Vec::new(),
        retries: vec!["once".to_string()],
        seconds: 12.5,
        files: BTreeMap::from([("console".to_string(), "/a/console.log".into())]),
    }
}

fn suites() -> Vec<Suite> {
    vec![Suite::new("s", 2.0, samples("broken-0123"))]
}

fn results(boots: &[Record]) -> Results<'_> {
    Results {
        verb: "test",
        good: false,
        seconds: 14.0,
        suites: suites(),
        boots: boots.iter().collect(),
        data: Value::Null,
    }
}

#[test]
fn junit_has_every_leaf() {
    let xml = junit::write("test", &suites()).unwrap();
    assert!(xml.contains("tests=\"3\""), "{xml}");
    assert!(xml.contains("failures=\"1\""), "{xml}");
    assert!(
        xml.contains("name=\"b &lt;&amp;&gt; 1\" classname=\"s.g\""),
        "{xml}"
    );
    assert!(
        xml.contains("<property name=\"reports\" value=\"2\"/>"),
        "{xml}"
    );
    // XML has no way to write what a terminal takes for colour.
    assert!(!xml.contains('\u{1b}') && !xml.contains('\u{7}'), "{xml}");
}

#[test]
fn kcidb_has_what_is_about_a_kernel() {
    let boots = [record()];
    let report = kcidb::of(&results(&boots), "r", Utc::now(), |_| Vec::new());
    let report = serde_json::to_value(report).unwrap();
    let tests = report["tests"].as_array().unwrap();
    let brief: Vec<_> = tests
        .iter()
        .map(|test| {
            (
                test["path"].as_str().unwrap(),
                test["status"].as_str().unwrap(),
            )
        })
        .collect();
    assert_eq!(
        brief,
        [
            ("wakewatch.test.s.g.b_1", "FAIL"),
            ("wakewatch.test.boot.a_guest", "ERROR"),
        ]
    );
    assert_eq!(tests[0]["build_id"], report["builds"][0]["id"]);
    assert_eq!(
        report["builds"][0]["checkout_id"],
        report["checkouts"][0]["id"]
    );
}
