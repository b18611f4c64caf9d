//! The scoring of the HTTP Observatory, for one answer. Everybody begins with 100; what is missing or wrong is taken away, and
//! when 90 or more are left, what is good is added. Source: github.com/mdn/mdn-http-observatory, `src/grader/charts.js` and
//! `src/analyzer/tests/`, as published in August 2026. Not scored here: whether HTTP leads to HTTPS (the proxy's part), and
//! being in the browsers' list (5 more).
use std::collections::BTreeMap;

use house::Page;
use reqwest::header::HeaderMap;
use url::Url;

const BEGIN: i32 = 100;
/// What is good counts only from here on.
const EXTRA_FROM: i32 = 90;
const SIX_MONTHS_SECS: u64 = 15_552_000;
/// Sources that let anybody in.
const BROAD: [&str; 8] = ["ftp:", "http:", "https:", "*", "http://*", "http://*.*", "https://*", "https://*.*"];

/// An answer to look at.
pub(super) struct Look<'a> {
    pub(super) headers: &'a HeaderMap,
    pub(super) html: &'a str,
    pub(super) site: &'a str,
}

/// What a rule gives, and why.
pub(super) type Part = (&'static str, i32);

impl Look<'_> {
    /// The score, and what it is made of.
    pub(super) fn score(&self) -> (i32, Vec<Part>) {
        let parts = vec![
            self.content_policy(),
            self.cookies(),
            self.embedder(),
            self.opener(),
            self.resources(),
            self.sharing(),
            self.referrer(),
            self.transport(),
            self.scripts(),
            self.sniffing(),
            self.frames(),
        ];
        let bad: i32 = parts.iter().map(|(_, gives)| (*gives).min(0)).sum();
        let good: i32 = parts.iter().map(|(_, gives)| (*gives).max(0)).sum();
        let without = BEGIN + bad;
        (if without >= EXTRA_FROM { without + good } else { without.max(0) }, parts)
    }

    /// Every value of a header.
    fn all(&self, name: &str) -> Vec<String> {
        self.headers
            .get_all(name)
            .iter()
            .map(|value| String::from_utf8_lossy(value.as_bytes()).trim().to_owned())
            .collect()
    }

    fn first(&self, name: &str) -> Option<String> {
        self.all(name).into_iter().next()
    }

    /// The sources of each directive of the one policy.
    fn policy(&self) -> BTreeMap<String, Vec<String>> {
        let all = self.all("content-security-policy");
        assert!(
            all.len() < 2 && !all.iter().any(|policy| policy.contains(',')),
            "several policies are not scored here: {all:?}"
        );
        let mut policy = BTreeMap::new();
        for part in all.iter().flat_map(|text| text.split(';')) {
            let mut words = part.split_whitespace().map(str::to_lowercase);
            let Some(directive) = words.next() else { continue };
            let before = policy.insert(directive.clone(), words.collect::<Vec<_>>());
            assert!(before.is_none(), "{directive} stands there twice");
        }
        policy
    }

    fn content_policy(&self) -> Part {
        let policy = self.policy();
        if policy.is_empty() {
            return ("no content policy", -25);
        }
        let anybody = vec!["*".to_owned()];
        let or_default = |name: &str| policy.get(name).or_else(|| policy.get("default-src")).unwrap_or(&anybody);
        let (scripts, objects, styles) = (or_default("script-src"), or_default("object-src"), or_default("style-src"));
        let broad = |source: &String| BROAD.contains(&source.as_str());
        let inline = |source: &String| broad(source) || source == "'unsafe-inline'" || source == "data:";
        let open = |source: &&String| source.starts_with("http:") || source.starts_with("ftp:");
        let passive = ["img-src", "media-src"];
        if scripts.iter().any(inline) || objects.iter().any(broad) {
            return ("scripts or objects of anybody", -20);
        }
        let active = policy.iter().filter(|(name, _)| !passive.contains(&name.as_str()));
        if active.flat_map(|(_, sources)| sources).any(|source| open(&source)) {
            return ("something active without TLS", -20);
        }
        if scripts.iter().chain(styles).any(|source| source == "'unsafe-eval'") {
            return ("eval", -10);
        }
        if passive.iter().flat_map(|name| or_default(name)).any(|source| open(&source)) {
            return ("pictures without TLS", -10);
        }
        if styles.iter().any(inline) {
            return ("styles of anybody", 0);
        }
        match policy.get("default-src").map(Vec::as_slice) {
            Some([only]) if only == "'none'" => ("nothing is allowed that is not named", 10),
            _ => ("nothing unsafe is allowed", 5),
        }
    }

    fn cookies(&self) -> Part {
        let cookies: Vec<String> = self.all("set-cookie").iter().map(|line| line.to_lowercase()).collect();
        if cookies.is_empty() {
            return ("no cookies", 0);
        }
        let has = |cookie: &str, word: &str| cookie.split(';').skip(1).any(|part| part.trim() == word);
        let same = |cookie: &str| has(cookie, "samesite=lax") || has(cookie, "samesite=strict");
        if cookies.iter().any(|cookie| cookie.contains("samesite") && !same(cookie)) {
            return ("a cookie that is sent along from elsewhere", -20);
        }
        // Stricter than the rules: every cookie of ours is a session's or a browser's.
        if cookies.iter().any(|cookie| !has(cookie, "secure")) {
            return ("a cookie without TLS", -40);
        }
        if cookies.iter().any(|cookie| !has(cookie, "httponly")) {
            return ("a cookie that scripts read", -30);
        }
        if cookies.iter().all(|cookie| same(cookie)) { ("cookies of this site alone", 5) } else { ("cookies", 0) }
    }

    fn embedder(&self) -> Part {
        match self.all("cross-origin-embedder-policy").as_slice() {
            [] => ("nothing about what is embedded", 0),
            [one] if one == "require-corp" || one == "credentialless" => ("only what may be embedded is", 10),
            [one] if one == "unsafe-none" => ("everything is embedded", 0),
            _ => ("a faulty word about what is embedded", -5),
        }
    }

    fn opener(&self) -> Part {
        match self.all("cross-origin-opener-policy").as_slice() {
            [] => ("nothing about who opens it", 0),
            [one] if ["same-origin", "same-origin-allow-popups", "noopener-allow-popups"].contains(&one.as_str()) => {
                ("who opens it gets no hold of it", 10)
            }
            [one] if one == "unsafe-none" => ("whoever opens it gets hold of it", 0),
            _ => ("a faulty word about who opens it", -5),
        }
    }

    fn resources(&self) -> Part {
        match self.first("cross-origin-resource-policy").as_deref() {
            None => ("nothing about who embeds it", 0),
            Some("same-origin" | "same-site") => ("nobody else embeds it", 10),
            Some("cross-origin") => ("anybody embeds it", 0),
            Some(_) => ("a faulty word about who embeds it", -5),
        }
    }

    fn sharing(&self) -> Part {
        match self.first("access-control-allow-origin") {
            None => ("nobody else reads it", 0),
            Some(_) if self.first("access-control-allow-credentials").as_deref() == Some("true") => {
                ("others read it as you", -50)
            }
            Some(_) => ("others read it", 0),
        }
    }

    fn referrer(&self) -> Part {
        let good = ["no-referrer", "same-origin", "strict-origin", "strict-origin-when-cross-origin"];
        let bad = ["origin", "origin-when-cross-origin", "unsafe-url", "no-referrer-when-downgrade"];
        let all = self.all("referrer-policy").join(",");
        let words: Vec<&str> =
            all.split(',').map(str::trim).filter(|word| good.contains(word) || bad.contains(word)).collect();
        match words.last() {
            None if all.is_empty() => ("nothing about where somebody comes from", 0),
            Some(word) if good.contains(word) => ("nobody is told where somebody comes from", 5),
            _ => ("others are told where somebody comes from", -5),
        }
    }

    fn transport(&self) -> Part {
        if !self.site.starts_with("https://") {
            return ("no TLS", -20);
        }
        let all = self.all("strict-transport-security");
        let age = all.first().filter(|first| all.len() == 1 && !first.contains(','));
        let age = age.and_then(|text| {
            text.split(';').find_map(|part| part.trim().strip_prefix("max-age=")?.parse::<u64>().ok())
        });
        match age {
            None => ("TLS is not asked for", -20),
            Some(secs) if secs < SIX_MONTHS_SECS => ("TLS is asked for a short time", -10),
            Some(_) => ("TLS is asked for", 0),
        }
    }

    fn scripts(&self) -> Part {
        let kind = self.first("content-type").unwrap_or_default();
        if !kind.starts_with("text/html") {
            return ("no page", 0);
        }
        let url: Url = self.site.parse().expect("an address");
        let page = Page { url: url.clone(), status: 200, html: self.html.to_owned() };
        let all = page.attributes("script[src]", "src");
        if all.is_empty() {
            return ("no scripts", 0);
        }
        let foreign: Vec<Url> = all
            .iter()
            .filter_map(|source| url.join(source).ok())
            .filter(|source| source.origin() != url.origin())
            .collect();
        let sealed = page.attributes("script[src][integrity]", "src").len();
        if foreign.iter().any(|source| source.scheme() != "https") {
            return ("a script from elsewhere without TLS", -50);
        }
        match (foreign.len(), sealed) {
            (0, 0) => ("scripts of our own", 0),
            (foreign, sealed) if sealed >= foreign => ("sealed scripts", 5),
            _ => ("a script from elsewhere that may change", -5),
        }
    }

    fn sniffing(&self) -> Part {
        match self.first("x-content-type-options").as_deref() {
            Some("nosniff") => ("kinds are believed", 0),
            _ => ("kinds are guessed", -5),
        }
    }

    fn frames(&self) -> Part {
        if self.policy().contains_key("frame-ancestors") {
            return ("frames are named by the policy", 5);
        }
        match self.first("x-frame-options").map(|text| text.to_lowercase()).as_deref() {
            Some("deny" | "sameorigin") => ("no frames of others", 5),
            Some(text) if text.starts_with("allow-from") => ("frames of some", 0),
            _ => ("frames of anybody", -20),
        }
    }
}

#[cfg(test)]
mod tests {
    use reqwest::header::{HeaderMap, HeaderName, HeaderValue};

    use super::Look;

    fn score(lines: &[(&'static str, &'static str)], html: &str) -> i32 {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        Look { headers: &headers, html, site: "https://a.test" }.score().0
    }

    const GOOD: [(&str, &str); 9] = [
        ("content-type", "text/html"),
        ("content-security-policy", "default-src 'none'; script-src 'self'; frame-ancestors 'none'"),
        ("strict-transport-security", "max-age=31536000; includeSubDomains"),
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "same-origin"),
        ("cross-origin-opener-policy", "same-origin"),
        ("cross-origin-resource-policy", "same-origin"),
        ("cross-origin-embedder-policy", "require-corp"),
        ("set-cookie", "__Host-a=b; Secure; HttpOnly; SameSite=Lax; Path=/"),
    ];

    /// The good answer with one header changed; without it where the value is empty.
    fn with(name: &str, value: &'static str) -> i32 {
        let mut lines = GOOD.to_vec();
        lines.iter_mut().filter(|(known, _)| *known == name).for_each(|line| line.1 = value);
        lines.retain(|(_, value)| !value.is_empty());
        score(&lines, "")
    }

    #[test]
    fn nothing_scores_as_little_as_the_rules_say_and_everything_as_much() {
        // No policy −25, frames −20, TLS −20, kinds −5.
        assert_eq!(score(&[], ""), 30);
        assert_eq!(score(&GOOD, ""), 155);
    }

    #[test]
    fn each_fault_costs_what_the_rules_say() {
        // Below 90 nothing is added.
        assert_eq!(with("content-security-policy", ""), 55);
        assert_eq!(with("content-security-policy", "default-src 'self'; frame-ancestors 'none'"), 150);
        assert_eq!(
            with("content-security-policy", "default-src 'none'; script-src 'unsafe-inline'; frame-ancestors 'none'"),
            80
        );
        assert_eq!(with("content-security-policy", "script-src 'self'; frame-ancestors 'none'"), 80);
        assert_eq!(with("strict-transport-security", ""), 80);
        assert_eq!(with("strict-transport-security", "max-age=300"), 90 + 55);
        assert_eq!(with("x-content-type-options", ""), 95 + 55);
        assert_eq!(with("referrer-policy", "unsafe-url"), 95 + 50);
        assert_eq!(with("cross-origin-opener-policy", ""), 145);
        assert_eq!(with("cross-origin-embedder-policy", "nonsense"), 95 + 45);
        assert_eq!(with("set-cookie", "a=b; HttpOnly; SameSite=Lax"), 60);
        assert_eq!(with("set-cookie", "a=b; Secure; HttpOnly; SameSite=None"), 80);
        assert_eq!(score(&GOOD, r#"<script src="https://b.test/x.js"></script>"#), 95 + 55);
        assert_eq!(score(&GOOD, r#"<script src="http://b.test/x.js"></script>"#), 50);
    }
}
