//! A real Chromium, driven through chromedriver: it presses what a person would press, and looks hard at every page.
use std::{
    collections::BTreeMap,
    fs,
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use base64::prelude::{BASE64_STANDARD, Engine as _};
use house::{House, Launch, Running, free_port, repository, tool};
use serde_json::{Value, json};
use thirtyfour::{By, ChromiumLikeCapabilities, DesiredCapabilities, Key, LoggingPrefsLogLevel, WebDriver};
use url::Url;

/// What gets both programs.
const GET_IT: &str = "tests/house/install-tools test";
const FLAGS: &[&str] = &[
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
];
/// A desk and a phone: width and height in CSS pixels.
const SIZES: [(u32, u32); 2] = [(1280, 900), (390, 844)];
const TABS_MAX: usize = 80;
const READY_LIMIT: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// One browser window with a profile of its own. Dropping it closes it.
pub(super) struct Browser {
    driver: WebDriver,
    devtools: Url,
    http: reqwest::Client,
    home: Url,
    _chromedriver: Running,
    _profile: Profile,
}

struct Profile(PathBuf);

impl Drop for Profile {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Browser {
    /// Opens a window on the house's front door; without `scripts` the pages' own JavaScript does not run.
    ///
    /// *Errors*: Chromium or chromedriver is not installed (the error names the command that installs it) or does not start.
    pub(super) async fn open(house: &House, scripts: bool) -> Result<Self> {
        let (chromedriver, chromium) = (tool("chromedriver", GET_IT)?, tool("chromium", GET_IT)?);
        let profile =
            Profile(repository().join(format!("build/browser/{}-{:08x}", house.name(), rand::random::<u32>())));
        fs::create_dir_all(&profile.0)?;
        let server: Url = format!("http://127.0.0.1:{}", free_port()?).parse()?;
        let port = format!("--port={}", server.port().context("a port")?);
        let mut running = Launch::new("chromedriver", chromedriver).args([port]).start(&house.logs())?;
        let http = house.visitor()?.http;
        let status = server.join("/status")?;
        let ready = || {
            let question = http.get(status.clone());
            async move { question.send().await.is_ok_and(|answer| answer.status().is_success()) }
        };
        running.wait_until(READY_LIMIT, ready).await?;
        let mut wanted = DesiredCapabilities::chrome();
        wanted.set_binary(chromium.to_str().context("a path in UTF-8")?)?;
        for flag in FLAGS {
            wanted.add_arg(flag)?;
        }
        wanted.add_arg(&format!("--user-data-dir={}", profile.0.display()))?;
        wanted.set_browser_log_level(LoggingPrefsLogLevel::All)?;
        if !scripts {
            let off = json!({"profile.managed_default_content_settings.javascript": 2});
            wanted.add_experimental_option("prefs", off)?;
        }
        let driver = WebDriver::new(server.as_str(), wanted).await.context("Chromium did not start")?;
        let devtools = server.join(&format!("/session/{}/goog/cdp/execute", driver.session_id()))?;
        let home = house.url().clone();
        let browser = Self { driver, devtools, http, home, _chromedriver: running, _profile: profile };
        browser.sized(SIZES[0]).await?;
        browser.dark(false).await?;
        Ok(browser)
    }

    /// Closes the window.
    pub(super) async fn close(self) -> Result<()> {
        Ok(self.driver.quit().await?)
    }

    async fn devtools(&self, command: &str, params: Value) -> Result<Value> {
        let question = self.http.post(self.devtools.clone()).json(&json!({"cmd": command, "params": params}));
        let answer: Value = question.send().await?.json().await?;
        ensure!(answer["value"]["error"].is_null(), "{command}: {answer}");
        Ok(answer["value"].clone())
    }

    /// Gives the browser a device that holds passkeys and says of its own accord that its owner is there.
    ///
    /// *Source*: Chrome `DevTools` Protocol, domain `WebAuthn`.
    pub(super) async fn with_device(&self) -> Result<()> {
        self.devtools("WebAuthn.enable", json!({})).await?;
        let device = json!({
            "protocol": "ctap2",
            "transport": "internal",
            "hasResidentKey": true,
            "hasUserVerification": true,
            "isUserVerified": true,
            "automaticPresenceSimulation": true,
        });
        self.devtools("WebAuthn.addVirtualAuthenticator", json!({"options": device})).await.map(drop)
    }

    async fn sized(&self, (width, height): (u32, u32)) -> Result<()> {
        let metrics = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600});
        self.devtools("Emulation.setDeviceMetricsOverride", metrics).await.map(drop)
    }

    async fn dark(&self, dark: bool) -> Result<()> {
        let scheme = if dark { "dark" } else { "light" };
        // Without motion nothing is looked at, or pressed, on its way to where it will be.
        let media = [("prefers-color-scheme", scheme), ("prefers-reduced-motion", "reduce")];
        let media = json!({"features": media.map(|(name, value)| json!({"name": name, "value": value}))});
        self.devtools("Emulation.setEmulatedMedia", media).await.map(drop)
    }

    /// Opens an address, relative to the front door or whole.
    pub(super) async fn go(&self, address: &str) -> Result<()> {
        Ok(self.driver.goto(self.home.join(address)?.as_str()).await?)
    }

    /// Where it is.
    pub(super) async fn url(&self) -> Result<Url> {
        Ok(self.driver.current_url().await?)
    }

    /// Presses the link or button of the page's main part that says `words`, and waits until its page is left.
    pub(super) async fn press(&self, words: &str) -> Result<()> {
        let found = format!("//main//*[self::a or self::button][contains(normalize-space(.), '{words}')]");
        let pressed = self.driver.find(By::XPath(found)).await?;
        pressed.click().await.with_context(|| format!("press “{words}”"))?;
        let began = Instant::now();
        while pressed.tag_name().await.is_ok() {
            ensure!(began.elapsed() < READY_LIMIT, "“{words}” leads nowhere: {}", self.text("main").await?);
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok(())
    }

    /// Presses the one element that `css` selects.
    pub(super) async fn press_at(&self, css: &str) -> Result<()> {
        Ok(self.driver.find(By::Css(css)).await?.click().await?)
    }

    /// Types into the field with this id, after emptying it.
    pub(super) async fn fill(&self, id: &str, text: &str) -> Result<()> {
        let field = self.driver.find(By::Id(id)).await?;
        field.clear().await?;
        Ok(field.send_keys(text).await?)
    }

    /// Runs a script in the page and gives what it returns.
    pub(super) async fn ask(&self, script: &str) -> Result<Value> {
        Ok(self.driver.execute(script, vec![]).await?.json().clone())
    }

    /// Runs a script that is given something, and gives what it returns.
    pub(super) async fn ask_with(&self, script: &str, given: Vec<Value>) -> Result<Value> {
        Ok(self.driver.execute(script, given).await?.json().clone())
    }

    /// Waits until the page that said `window.leaving = true` is left, and the next one is there.
    pub(super) async fn left(&self, limit: Duration) -> Result<()> {
        let began = Instant::now();
        loop {
            let there = self.ask("return !window.leaving && document.readyState === 'complete'").await;
            if there.is_ok_and(|there| there == json!(true)) {
                return Ok(());
            }
            ensure!(began.elapsed() < limit, "the form leads nowhere: {}", self.url().await?);
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// What is written in the first element that `css` selects, as a person sees it.
    pub(super) async fn text(&self, css: &str) -> Result<String> {
        Ok(self.driver.find(By::Css(css)).await?.text().await?)
    }

    /// An attribute of the first element that `css` selects.
    pub(super) async fn attribute(&self, css: &str, name: &str) -> Result<Option<String>> {
        Ok(self.driver.find(By::Css(css)).await?.attr(name).await?)
    }

    /// Waits until the page's main part says `words` in any case, without touching it.
    ///
    /// *Errors*: it did not within `limit`; the error holds what it said last.
    pub(super) async fn wait_for(&self, words: &str, limit: Duration) -> Result<()> {
        let began = Instant::now();
        loop {
            let said = self.text("main").await.unwrap_or_default();
            if said.to_lowercase().contains(&words.to_lowercase()) {
                return Ok(());
            }
            ensure!(began.elapsed() < limit, "{:?} does not say “{words}”, but: {said}", self.url().await);
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Waits until it is on a page of this origin.
    ///
    /// *Errors*: it is elsewhere after `limit`; the error says where.
    pub(super) async fn arrive(&self, origin: &Url, limit: Duration) -> Result<()> {
        let began = Instant::now();
        loop {
            let here = self.url().await?;
            if here.origin() == origin.origin() {
                return Ok(());
            }
            ensure!(began.elapsed() < limit, "at {here}, not at {origin}: {}", self.text("body").await?);
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Sends one key to whatever has the focus.
    pub(super) async fn key(&self, key: Key) -> Result<()> {
        Ok(self.driver.action_chain().send_keys(key).perform().await?)
    }

    /// Goes on with the Tab key until the focus is on what `css` selects.
    ///
    /// *Errors*: it is not there after eighty times.
    pub(super) async fn tab_to(&self, css: &str) -> Result<()> {
        for _ in 0..TABS_MAX {
            self.key(Key::Tab).await?;
            if self.ask(&format!("return document.activeElement.matches('{css}')")).await? == json!(true) {
                return Ok(());
            }
        }
        anyhow::bail!("the Tab key does not lead to {css}")
    }

    /// Looks at the page on a desk and on a phone, by day and by night: nothing may be wider than the screen, faint, without
    /// a name or from elsewhere, the browser may not complain, and the skip link comes first. Keeps a picture of each as
    /// `build/screenshots/<name>-<width>[-dark].png`.
    pub(super) async fn look(&self, name: &str) -> Result<()> {
        for size in SIZES {
            self.sized(size).await?;
            for dark in [false, true] {
                self.dark(dark).await?;
                let debts = self.driver.execute(include_str!("debts.js"), vec![json!(size.0)]).await?;
                let mut debts: BTreeMap<String, Vec<String>> = debts.convert()?;
                debts.retain(|_, list| !list.is_empty());
                let night = if dark { "-dark" } else { "" };
                self.keep_picture(&format!("{name}-{}{night}", size.0)).await?;
                ensure!(debts.is_empty(), "{name} at {} px{night}: {debts:#?}", size.0);
            }
        }
        self.dark(false).await?;
        self.sized(SIZES[0]).await?;
        self.no_complaints(name).await?;
        let top = "const top = document.body; top.tabIndex = -1; top.focus(); top.removeAttribute('tabindex')";
        self.ask(top).await?;
        self.key(Key::Tab).await?;
        let first =
            self.ask("const e = document.activeElement; const is = e.matches('.skip'); e.blur(); return is").await?;
        ensure!(first == json!(true), "{name}: the skip link is not first");
        Ok(())
    }

    /// What the browser itself complained of since the last look; the status of a page that is refused on purpose is none.
    pub(super) async fn no_complaints(&self, name: &str) -> Result<()> {
        let here = self.url().await?;
        let mut log = self.driver.browser_log().await?;
        log.retain(|entry| entry.level != "INFO" && entry.level != "DEBUG");
        log.retain(|entry| !(entry.message.starts_with(here.as_str()) && entry.message.contains("status of 4")));
        // A day that was sent is shown as it was sent, and the browser leaves out what is none.
        log.retain(|entry| !entry.message.contains("does not conform to the required format"));
        ensure!(log.is_empty(), "{name}: the browser complains: {log:#?}");
        Ok(())
    }

    /// Forgets what the browser complained of so far: it was about a page of somebody else.
    pub(super) async fn forget_complaints(&self) -> Result<()> {
        Ok(self.driver.browser_log().await.map(drop)?)
    }

    async fn keep_picture(&self, file: &str) -> Result<()> {
        let folder = repository().join("build/screenshots");
        fs::create_dir_all(&folder)?;
        let shot = self.devtools("Page.captureScreenshot", json!({"captureBeyondViewport": true})).await?;
        let picture = BASE64_STANDARD.decode(shot["data"].as_str().context("a picture")?)?;
        Ok(fs::write(folder.join(format!("{file}.png")), picture)?)
    }
}
