//! The list of OWASP ASVS 5.0 in `docs/SECURITY_CHECKLIST.md` tells the truth: every requirement of levels 1 and 2 that may apply
//! has one line, every file and every test it names is there, and the share that a test shows is printed.
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::PathBuf,
};

/// The requirements of levels 1 and 2 by section, without OAuth (V10), self-contained tokens (V9) and WebRTC (V17): the numbers
/// of OWASP ASVS 5.0.0.
const NUMBERS: [(&str, &[u8]); 63] = [
    ("1.1", &[1, 2]),
    ("1.2", &[1, 2, 3, 4, 5, 6, 7, 8, 9]),
    ("1.3", &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]),
    ("1.4", &[1, 2, 3]),
    ("1.5", &[1, 2]),
    ("2.1", &[1, 2, 3]),
    ("2.2", &[1, 2, 3]),
    ("2.3", &[1, 2, 3, 4]),
    ("2.4", &[1]),
    ("3.2", &[1, 2]),
    ("3.3", &[1, 2, 3, 4]),
    ("3.4", &[1, 2, 3, 4, 5, 6]),
    ("3.5", &[1, 2, 3, 4, 5]),
    ("3.7", &[1, 2]),
    ("4.1", &[1, 2, 3]),
    ("4.2", &[1]),
    ("4.3", &[1, 2]),
    ("4.4", &[1, 2, 3, 4]),
    ("5.1", &[1]),
    ("5.2", &[1, 2, 3]),
    ("5.3", &[1, 2]),
    ("5.4", &[1, 2, 3]),
    ("6.1", &[1, 2, 3]),
    ("6.2", &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]),
    ("6.3", &[1, 2, 3, 4]),
    ("6.4", &[1, 2, 3, 4]),
    ("6.5", &[1, 2, 3, 4, 5]),
    ("6.6", &[1, 2, 3]),
    ("6.8", &[1, 2, 3, 4]),
    ("7.1", &[1, 2, 3]),
    ("7.2", &[1, 2, 3, 4]),
    ("7.3", &[1, 2]),
    ("7.4", &[1, 2, 3, 4, 5]),
    ("7.5", &[1, 2]),
    ("7.6", &[1, 2]),
    ("8.1", &[1, 2]),
    ("8.2", &[1, 2, 3]),
    ("8.3", &[1]),
    ("8.4", &[1]),
    ("11.1", &[1, 2]),
    ("11.2", &[1, 2, 3]),
    ("11.3", &[1, 2, 3]),
    ("11.4", &[1, 2, 3, 4]),
    ("11.5", &[1]),
    ("11.6", &[1]),
    ("12.1", &[1, 2, 3]),
    ("12.2", &[1, 2]),
    ("12.3", &[1, 2, 3, 4]),
    ("13.1", &[1]),
    ("13.2", &[1, 2, 3, 4, 5]),
    ("13.3", &[1, 2]),
    ("13.4", &[1, 2, 3, 4, 5]),
    ("14.1", &[1, 2]),
    ("14.2", &[1, 2, 3, 4]),
    ("14.3", &[1, 2, 3]),
    ("15.1", &[1, 2, 3]),
    ("15.2", &[1, 2, 3]),
    ("15.3", &[1, 2, 3, 4, 5, 6, 7]),
    ("16.1", &[1]),
    ("16.2", &[1, 2, 3, 4, 5]),
    ("16.3", &[1, 2, 3, 4]),
    ("16.4", &[1, 2, 3]),
    ("16.5", &[1, 2, 3]),
];
/// What is told of a requirement.
const STATES: [&str; 3] = ["test", "file", "open"];
/// At least so many of a hundred are shown by a test.
const SHARE_MIN_PERCENT: usize = 90;

fn read(path: &str) -> String {
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&file).unwrap_or_else(|fault| panic!("{path}: {fault}"))
}

/// One line of the list.
struct Line {
    number: String,
    words: String,
    state: String,
    shown: String,
}

fn lines() -> Vec<Line> {
    let page = read("docs/SECURITY_CHECKLIST.md");
    let of_list = |line: &&str| line.starts_with("| V") && line.as_bytes().get(3).is_some_and(u8::is_ascii_digit);
    let read = |line: &str| {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [number, words, state, shown] = cells[..] else { panic!("four cells: {line}") };
        Line { number: number.to_owned(), words: words.to_owned(), state: state.to_owned(), shown: shown.to_owned() }
    };
    page.lines().filter(of_list).map(read).collect()
}

#[test]
fn every_requirement_has_one_line_and_no_line_is_about_another() {
    let wanted: BTreeSet<String> = NUMBERS
        .iter()
        .flat_map(|(section, numbers)| numbers.iter().map(move |number| format!("V{section}.{number}")))
        .collect();
    assert_eq!(wanted.len(), 210, "the numbers of ASVS 5.0");
    let lines = lines();
    let told: BTreeSet<String> = lines.iter().map(|line| line.number.clone()).collect();
    assert_eq!(told.len(), lines.len(), "a requirement has two lines");
    let missing: Vec<_> = wanted.difference(&told).collect();
    let foreign: Vec<_> = told.difference(&wanted).collect();
    assert!(missing.is_empty() && foreign.is_empty(), "missing: {missing:?}, not of the list: {foreign:?}");
    for line in &lines {
        assert!(line.words.len() > 8 && STATES.contains(&line.state.as_str()), "{}: {}", line.number, line.state);
        let names = line.shown.contains('`');
        assert!(names || line.state == "open", "{} is shown by nothing", line.number);
        assert!(line.state != "open" || line.shown.len() > 8, "{}: what is open is not said", line.number);
    }
}

#[test]
fn every_file_and_every_test_of_the_list_is_there() {
    let (mut files, mut tests) = (BTreeMap::<String, String>::new(), 0);
    for line in lines() {
        let mut file = String::new();
        let mut shown_by_test = false;
        for word in line.shown.split('`').skip(1).step_by(2) {
            if word.contains('/') || ["Cargo.toml", "Makefile"].contains(&word) {
                files.entry(word.to_owned()).or_insert_with(|| read(word));
                word.clone_into(&mut file);
                continue;
            }
            let text = files.get(&file).unwrap_or_else(|| panic!("{}: `{word}` stands behind no file", line.number));
            let named = [format!("fn {word}("), format!("{word}: \""), format!("const {word}")];
            assert!(named.iter().any(|name| text.contains(name)), "{}: {file} has no {word}", line.number);
            let is_test = is_test(text, word);
            shown_by_test |= is_test;
            tests += usize::from(is_test);
        }
        assert_eq!(line.state == "test", shown_by_test, "{}: {} by {}", line.number, line.state, line.shown);
    }
    assert!(files.len() > 40 && tests > 150, "{} files, {tests} tests", files.len());
}

/// Whether a name is that of a test: a function that is marked as one, or a line of a list that becomes one.
fn is_test(text: &str, name: &str) -> bool {
    let marked = |at: usize| {
        let before: String = text[..at].lines().rev().take(3).collect();
        before.contains("#[test]") || before.contains("#[tokio::test")
    };
    text.find(&format!("fn {name}(")).is_some_and(marked) || text.contains(&format!("    {name}: \""))
}

#[test]
fn the_share_that_a_test_shows_is_told() {
    let lines = lines();
    let of = |state: &str| lines.iter().filter(|line| line.state == state).count();
    let (shown, read, open) = (of("test"), of("file"), of("open"));
    let percent = shown * 100 / lines.len();
    println!(
        "of {} requirements {shown} are shown by a test ({percent} %), {read} by a file, {open} are open",
        lines.len()
    );
    let told = format!("{shown} by an automated test, {read} by a file, {open} are open");
    assert!(read_page().contains(&told), "docs/SECURITY_CHECKLIST.md does not say: {told}");
    assert!(percent >= SHARE_MIN_PERCENT, "only {percent} % are shown by a test");
}

fn read_page() -> String {
    read("docs/SECURITY_CHECKLIST.md").split_whitespace().collect::<Vec<_>>().join(" ")
}
