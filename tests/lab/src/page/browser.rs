// SPDX-License-Identifier: GPL-2.0

//! The page in a real browser, told by the DevTools protocol what to do: clicks are clicks at a place of the
//! screen, and what is asked for is what was drawn. `make browser` runs these tests; WW_BROWSER names the program.

use super::samples::Folder;
use serde_json::{json, Value};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

/// Until a browser that says nothing is taken for one that hangs.
const PATIENCE: Duration = Duration::from_secs(240);

/// A browser with one page, at the other end of two pipes. A message is JSON and a zero byte.
struct Browser {
    child: Child,
    to: Option<ChildStdin>,
    from: BufReader<ChildStdout>,
    session: String,
    sent: u64,
    /// What it has told without being asked.
    events: Vec<Value>,
    _profile: Folder,
}

impl Browser {
    /// Opens the page.
    fn open(page: &Path) -> Self {
        Self::open_with(page, |_| {})
    }

    fn open_with(page: &Path, before: impl FnOnce(&mut Self)) -> Self {
        let program = std::env::var("WW_BROWSER").expect("WW_BROWSER: which browser?");
        let profile = Folder::new("browser");
        // It speaks on descriptors 3 and 4, and what else it says is for nobody.
        let mut child = Command::new("/bin/sh")
            .args([
                "-c",
                "exec \"$0\" \"$@\" 3<&0 4>&1 </dev/null >/dev/null 2>&1",
            ])
            .arg(program)
            // In a container, and as root, it can't have a sandbox. The page is this project's own.
            .args([
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-dev-shm-usage",
            ])
            .args(["--no-first-run", "--remote-debugging-pipe"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg("about:blank")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a shell");
        let from = BufReader::new(child.stdout.take().expect("piped"));
        let mut browser = Self {
            to: child.stdin.take(),
            child,
            from,
            session: String::new(),
            sent: 0,
            events: Vec::new(),
            _profile: profile,
        };
        browser.watch();
        let targets = browser.call("Target.getTargets", json!({}));
        let targets = targets["targetInfos"].as_array().expect("targets");
        let target = targets.iter().find(|target| target["type"] == "page");
        let target = target.expect("a page")["targetId"].clone();
        let attach = json!({"targetId": target, "flatten": true});
        let session = browser.call("Target.attachToTarget", attach);
        browser.session = session["sessionId"]
            .as_str()
            .expect("a session")
            .to_string();
        for part in ["Page", "Runtime", "Log", "Network", "Accessibility"] {
            browser.call(&format!("{part}.enable"), json!({}));
        }
        before(&mut browser);
        browser.go(&format!("file://{}", page.display()));
        browser
    }

    /// Ends it if it hangs, and with it the test that waits for it.
    fn watch(&self) {
        let group = self.child.id() as i32;
        std::thread::spawn(move || {
            std::thread::sleep(PATIENCE);
            let _ = nix::sys::signal::kill(
                nix::unistd::Pid::from_raw(group),
                nix::sys::signal::Signal::SIGKILL,
            );
        });
    }

    fn go(&mut self, url: &str) {
        self.events.clear();
        self.call("Page.navigate", json!({"url": url}));
        while !self.told("Page.loadEventFired") {
            let event = self.receive();
            self.events.push(event);
        }
    }

    fn told(&self, method: &str) -> bool {
        self.events.iter().any(|event| event["method"] == method)
    }

    fn receive(&mut self) -> Value {
        let mut text = Vec::new();
        self.from
            .read_until(0, &mut text)
            .expect("the browser speaks");
        assert_eq!(text.pop(), Some(0), "the browser has ended");
        serde_json::from_slice(&text).expect("JSON")
    }

    fn call(&mut self, method: &str, params: Value) -> Value {
        self.sent += 1;
        let mut message = json!({"id": self.sent, "method": method, "params": params});
        if !self.session.is_empty() {
            message["sessionId"] = json!(self.session);
        }
        let to = self.to.as_mut().expect("open");
        to.write_all(format!("{message}\0").as_bytes())
            .expect("the browser listens");
        to.flush().expect("the browser listens");
        loop {
            let mut answer = self.receive();
            if answer["id"] == json!(self.sent) {
                assert!(answer["error"].is_null(), "{method}: {answer}");
                return answer["result"].take();
            }
            self.events.push(answer);
        }
    }

    /// What an expression is in the page.
    fn ask(&mut self, expression: &str) -> Value {
        let params = json!({"expression": expression, "returnByValue": true, "awaitPromise": true});
        let mut answer = self.call("Runtime.evaluate", params);
        assert!(
            answer["exceptionDetails"].is_null(),
            "{expression}: {answer}"
        );
        answer["result"]["value"].take()
    }

    /// A click of the mouse in the middle of what `selector` names.
    fn click(&mut self, selector: &str) {
        let place = self.ask(&format!(
            "(() => {{ const e = document.querySelector({selector:?}); e.scrollIntoView({{block: 'center'}});
               const r = e.getBoundingClientRect(); return [r.x + r.width / 2, r.y + r.height / 2]; }})()"
        ));
        for what in ["mousePressed", "mouseReleased"] {
            let params = json!({"type": what, "x": place[0], "y": place[1], "button": "left", "clickCount": 1});
            self.call("Input.dispatchMouseEvent", params);
        }
    }

    /// Errors of the page's, and whatever it has loaded besides itself.
    fn complaints(&self) -> Vec<String> {
        let of = |event: &Value| match event["method"].as_str()? {
            "Runtime.exceptionThrown" | "Log.entryAdded" | "Runtime.consoleAPICalled" => {
                Some(event.to_string())
            }
            "Network.requestWillBeSent" if event["params"]["type"] != "Document" => {
                Some(event.to_string())
            }
            _ => None,
        };
        self.events.iter().filter_map(of).collect()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // It ends with its pipe; what it has begun, too.
        self.to = None;
        let end = Instant::now() + Duration::from_secs(10);
        while Instant::now() < end {
            if let Ok(Some(_)) = self.child.try_wait() {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn sample(name: &str) -> (Folder, std::path::PathBuf) {
    let folder = Folder::of_run(name);
    let page = super::write(folder.path()).unwrap();
    (folder, page)
}

/// What is written in the page, with all of it open.
const EVERYTHING: &str =
    "(document.querySelectorAll('details').forEach(d => d.open = true), document.body.innerText)";

#[test]
#[ignore = "needs a browser: make browser"]
fn opens_without_an_error_and_runs_nothing_of_a_guests() {
    let (_folder, page) = sample("opens");
    let mut browser = Browser::open(&page);
    let text = browser.ask(EVERYTHING).as_str().unwrap().to_string();
    assert!(
        text.contains("<script>document.title = 'taken'</script>"),
        "{text}"
    );
    assert!(text.contains("<img src=x onerror="), "{text}");
    assert_eq!(
        browser.ask("document.title"),
        json!("wakewatch: 20201124-171419-boot")
    );
    assert_eq!(browser.ask("document.images.length"), json!(0));
    assert_eq!(browser.ask("document.scripts.length"), json!(1));
    assert_eq!(browser.complaints(), Vec::<String>::new());
}

#[test]
#[ignore = "needs a browser: make browser"]
fn the_timeline_is_there_and_to_scale() {
    let (_folder, page) = sample("timeline");
    let mut browser = Browser::open(&page);
    // Of the first picture, by the letters of its events.
    let drawn = browser.ask(
        "[...document.querySelector('figure.timeline').querySelectorAll('a.event')].map(a => {
           const dot = a.querySelector('circle').getBoundingClientRect();
           return [a.querySelector('text.letter').textContent, dot.y, dot.x, a.textContent]; })",
    );
    let at = |letter: &str, what: usize| {
        let events = drawn.as_array().unwrap().iter();
        let mut events = events.filter(|event| event[0] == letter);
        events
            .next()
            .unwrap_or_else(|| panic!("no {letter}: {drawn}"))[what]
            .clone()
    };
    let y = |letter| at(letter, 1).as_f64().unwrap();
    let x = |letter| at(letter, 2).as_f64().unwrap();
    let told = super::samples::times();
    let scale = (y("W") - y("C")) / told.wake;
    assert!(scale > 0.0);
    for (letter, ms) in [
        ("F", told.freed),
        ("A", told.allocated),
        ("S", told.started),
    ] {
        let wanted = y("C") + ms * scale;
        assert!(
            (y(letter) - wanted).abs() < 0.5,
            "{letter}: {} and not {wanted}",
            y(letter)
        );
        // The other CPU's lane.
        assert_eq!(x(letter), x("F"), "{letter}");
    }
    assert_eq!(x("C"), x("W"));
    assert!(x("F") > x("C") && x("V") > x("F"), "{drawn}");
    // What happens in a small part of the time has a picture of its own.
    assert_eq!(
        browser.ask("document.querySelector('article').querySelectorAll('figure.timeline').length"),
        json!(2)
    );
}

/// Whether the first story's free has shown its stack.
const STACK: &str = "(() => { const stack = document.querySelector('article details:has(b.freed) ol.stack');
    const r = stack.getBoundingClientRect();
    return stack.checkVisibility({contentVisibilityAuto: true}) && r.height > 0 && r.top < innerHeight && r.bottom > 0; })()";

#[test]
#[ignore = "needs a browser: make browser"]
fn a_click_opens_the_stack() {
    let (_folder, page) = sample("click");
    let mut browser = Browser::open(&page);
    assert_eq!(browser.ask(STACK), json!(false));
    browser.click("figure.timeline a.event.freed rect.hit");
    assert_eq!(browser.ask(STACK), json!(true));
    // By the keyboard, too.
    browser.ask("document.querySelector('article details:has(b.freed)').open = false, document.querySelector('figure.timeline a.event.freed').focus()");
    for what in ["keyDown", "keyUp"] {
        let enter = json!({"type": what, "key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 13, "text": "\r"});
        browser.call("Input.dispatchKeyEvent", enter);
    }
    assert_eq!(browser.ask(STACK), json!(true));
    assert_eq!(browser.complaints(), Vec::<String>::new());
}

#[test]
#[ignore = "needs a browser: make browser"]
fn a_click_opens_the_stack_without_scripts() {
    let (_folder, page) = sample("without");
    let mut browser = Browser::open_with(&page, |browser| {
        browser.call(
            "Emulation.setScriptExecutionDisabled",
            json!({"value": true}),
        );
    });
    assert_eq!(browser.ask(STACK), json!(false));
    browser.click("article details:has(b.freed) summary");
    assert_eq!(browser.ask(STACK), json!(true));
}

#[test]
#[ignore = "needs a browser: make browser"]
fn fits_a_phone() {
    let (_folder, page) = sample("phone");
    let mut browser = Browser::open_with(&page, |browser| {
        let phone = json!({"width": 360, "height": 740, "deviceScaleFactor": 2, "mobile": true});
        browser.call("Emulation.setDeviceMetricsOverride", phone);
    });
    browser.ask(EVERYTHING);
    assert_eq!(
        browser.ask("[innerWidth, document.documentElement.scrollWidth]"),
        json!([360, 360])
    );
    // Nothing that is written is too small to be read.
    let small = browser.ask(
        "[...document.querySelectorAll('svg text')].filter(t => t.getBoundingClientRect().height < 10).map(t => t.textContent)",
    );
    assert_eq!(small, json!([]));
}

/// Texts whose contrast to what is behind them is below 4.5 (WCAG 2, AA), with their colours.
const PALE: &str = "(() => {
    const parse = c => c.match(/[0-9.]+/g).map(Number);
    const light = c => { const [r, g, b] = c.map(v => v / 255).map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
    const seen = c => c.length < 4 || c[3] > 0;
    const behind = e => { for (; e; e = e.parentElement) { const c = parse(getComputedStyle(e).backgroundColor); if (seen(c)) return c; }
        throw 'a page without a background'; };
    const pale = [];
    for (const e of document.querySelectorAll('body *')) {
        if (![...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim()) || !e.checkVisibility()) continue;
        if (e.tagName === 'SCRIPT' || e.tagName === 'title') continue;
        const svg = e instanceof SVGElement;
        const front = parse(svg ? getComputedStyle(e).fill : getComputedStyle(e).color);
        const back = e.matches('text.letter') ? parse(getComputedStyle(e.parentElement.querySelector('rect.letter')).fill) : behind(svg ? e.closest('figure') : e);
        const [a, b] = [light(front.slice(0, 3)), light(back.slice(0, 3))].sort((a, b) => b - a);
        if ((a + 0.05) / (b + 0.05) < 4.5) pale.push([e.textContent, front, back]);
    }
    return [document.querySelectorAll('body *').length > 100, getComputedStyle(document.body).backgroundColor, pale]; })()";

#[test]
#[ignore = "needs a browser: make browser"]
fn contrast_is_enough_in_dark_and_light_and_on_paper() {
    let (_folder, page) = sample("contrast");
    let mut browser = Browser::open(&page);
    browser.ask(EVERYTHING);
    let mut backs = Vec::new();
    for (media, scheme) in [("screen", "light"), ("screen", "dark"), ("print", "dark")] {
        let scheme = json!([{"name": "prefers-color-scheme", "value": scheme}]);
        browser.call(
            "Emulation.setEmulatedMedia",
            json!({"media": media, "features": scheme}),
        );
        let found = browser.ask(PALE);
        assert_eq!(found[2], json!([]), "{media} {scheme}");
        backs.push(found[1].as_str().unwrap().to_string());
    }
    assert_ne!(backs[0], backs[1]);
    assert_eq!(backs[0], backs[2]);
}

#[test]
#[ignore = "needs a browser: make browser"]
fn paper_has_the_stacks() {
    let (_folder, page) = sample("paper");
    let mut browser = Browser::open(&page);
    assert_eq!(
        browser.ask("document.querySelector('article ol.stack').checkVisibility()"),
        json!(false)
    );
    browser.call("Emulation.setEmulatedMedia", json!({"media": "print"}));
    let stacks = "[...document.querySelectorAll('article ol.stack')].filter(s => s.getBoundingClientRect().height < 5).length";
    assert_eq!(browser.ask(stacks), json!(0));
    let console = "document.querySelector('details.log .console').checkVisibility({contentVisibilityAuto: true})";
    assert_eq!(browser.ask(console), json!(false));
    let paper = browser.call("Page.printToPDF", json!({}));
    assert!(paper["data"].as_str().unwrap().len() > 10_000);
}

#[test]
#[ignore = "needs a browser: make browser"]
fn events_have_names_for_who_cannot_see_them() {
    let (_folder, page) = sample("names");
    let mut browser = Browser::open(&page);
    let tree = browser.call("Accessibility.getFullAXTree", json!({}));
    let nodes = tree["nodes"].as_array().unwrap();
    let of = |role: &str| -> Vec<String> {
        let nodes = nodes
            .iter()
            .filter(|n| n["role"]["value"] == role && n["ignored"] != json!(true));
        nodes
            .map(|n| n["name"]["value"].as_str().unwrap_or("").to_string())
            .collect()
    };
    let links = of("link");
    assert!(links.iter().all(|name| !name.is_empty()), "{links:?}");
    let told = super::samples::times();
    let free = format!(
        "freed at +{:.3} ms on CPU 1 in task, by task ww-repro pid ",
        told.freed
    );
    assert!(
        links.iter().any(|name| name.starts_with(&free)),
        "{links:?}"
    );
    let groups = of("group");
    assert!(
        groups
            .iter()
            .any(|name| name.starts_with("Timeline of reused wake")),
        "{groups:?}"
    );
    // A list of the same, and headings to go by.
    assert!(of("heading").len() > 6 && of("listitem").len() > 10);
}
