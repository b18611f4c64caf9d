//! One SMTP conversation, and the faults that spoil it.

use std::time::Duration;

use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use super::spool::{Envelope, Spool};
use crate::faults::Faults;

const MESSAGE_LIMIT_BYTES: usize = 16 << 20;
const LINE_LIMIT_BYTES: u64 = 8 << 10;
const RECIPIENTS_LIMIT: usize = 100;
const IDLE_SECS: u64 = 300;

/// How a conversation ends early.
enum Cut {
    Socket,
    Fault,
}

impl From<std::io::Error> for Cut {
    fn from(_: std::io::Error) -> Self {
        Self::Socket
    }
}

/// Talks to one client until it leaves, is silent for five minutes or a fault cuts the line.
pub(super) async fn talk(socket: TcpStream, spool: Spool, faults: Faults) {
    if faults.take("refuse", None).is_some() {
        return;
    }
    let (read, write) = socket.into_split();
    let mut session =
        Session { read: BufReader::new(read), write, spool, faults, envelope: Envelope::default(), from_given: false };
    _ = tokio::time::timeout(Duration::from_hours(1), session.run()).await;
}

struct Session<R, W> {
    read: R,
    write: W,
    spool: Spool,
    faults: Faults,
    envelope: Envelope,
    from_given: bool,
}

impl<R: AsyncBufRead + Unpin, W: AsyncWrite + Unpin> Session<R, W> {
    async fn run(&mut self) -> Result<(), Cut> {
        self.say("220 localhost ESMTP").await?;
        while let Some(line) = self.line().await? {
            let line = String::from_utf8_lossy(&line).trim_end().to_owned();
            let (verb, rest) = line.split_once(' ').unwrap_or((&line, ""));
            match verb.to_ascii_uppercase().as_str() {
                "EHLO" => {
                    self.reset();
                    let size = format!("250-SIZE {MESSAGE_LIMIT_BYTES}");
                    for feature in
                        ["250-localhost", &size, "250-AUTH PLAIN", "250-8BITMIME", "250-SMTPUTF8", "250 PIPELINING"]
                    {
                        self.say(feature).await?;
                    }
                }
                "HELO" => {
                    self.reset();
                    self.say("250 localhost").await?;
                }
                "AUTH" => self.say("235 2.7.0 Accepted").await?,
                "MAIL" => self.mail(rest).await?,
                "RCPT" => self.rcpt(rest).await?,
                "DATA" => self.data().await?,
                "RSET" => {
                    self.reset();
                    self.say("250 2.0.0 Ok").await?;
                }
                "NOOP" => self.say("250 2.0.0 Ok").await?,
                "QUIT" => {
                    self.say("221 2.0.0 Bye").await?;
                    return Ok(());
                }
                _ => self.say("500 5.5.2 Command not known").await?,
            }
        }
        Ok(())
    }

    fn reset(&mut self) {
        self.envelope = Envelope::default();
        self.from_given = false;
    }

    async fn say(&mut self, line: &str) -> Result<(), Cut> {
        self.write.write_all(format!("{line}\r\n").as_bytes()).await?;
        Ok(self.write.flush().await?)
    }

    /// The next line with its ending; `None` once the client is gone.
    async fn line(&mut self) -> Result<Option<Vec<u8>>, Cut> {
        let mut line = Vec::new();
        let mut bounded = (&mut self.read).take(LINE_LIMIT_BYTES);
        let reading = bounded.read_until(b'\n', &mut line);
        let count = tokio::time::timeout(Duration::from_secs(IDLE_SECS), reading).await.map_err(|_| Cut::Socket)??;
        if count == 0 {
            return Ok(None);
        }
        if line.ends_with(b"\n") { Ok(Some(line)) } else { Err(Cut::Socket) }
    }

    async fn mail(&mut self, rest: &str) -> Result<(), Cut> {
        let Some((from, options)) = path(rest, "FROM:") else {
            return self.say("501 5.5.4 Syntax: MAIL FROM:<address>").await;
        };
        let size = options.split(' ').find_map(|option| option.strip_prefix("SIZE=")?.parse::<usize>().ok());
        if self.from_given {
            return self.say("503 5.5.1 Sender already given").await;
        }
        if size.is_some_and(|bytes| bytes > MESSAGE_LIMIT_BYTES) {
            return self.say("552 5.3.4 Message too big").await;
        }
        from.clone_into(&mut self.envelope.from);
        self.from_given = true;
        self.say("250 2.1.0 Ok").await
    }

    async fn rcpt(&mut self, rest: &str) -> Result<(), Cut> {
        let to = path(rest, "TO:").map(|(address, _)| address.to_owned()).unwrap_or_default();
        if !self.from_given {
            return self.say("503 5.5.1 MAIL first").await;
        }
        if !to.contains('@') {
            return self.say("501 5.1.3 Syntax: RCPT TO:<address>").await;
        }
        if self.faults.take("permfail", Some(&to)).is_some() {
            return self.say("550 5.1.1 No such mailbox here").await;
        }
        if self.envelope.to.len() == RECIPIENTS_LIMIT {
            return self.say("452 4.5.3 Too many recipients").await;
        }
        self.envelope.to.push(to);
        self.say("250 2.1.5 Ok").await
    }

    async fn data(&mut self) -> Result<(), Cut> {
        let Some(first) = self.envelope.to.first().cloned() else {
            return self.say("503 5.5.1 RCPT first").await;
        };
        if self.faults.take("tempfail", Some(&first)).is_some() {
            self.reset();
            return self.say("451 4.3.0 Try again later").await;
        }
        self.say("354 End with a dot on a line of its own").await?;
        let Some(message) = self.message().await? else {
            self.reset();
            return self.say("552 5.3.4 Message too big").await;
        };
        let hang = self.faults.take("hang", Some(&first));
        if hang.as_ref().is_some_and(|fault| !fault.after_work) {
            return std::future::pending().await;
        }
        let name = message_id(&message).to_vec();
        let envelope = std::mem::take(&mut self.envelope);
        self.reset();
        let kept = self.spool.keep(envelope, message).await;
        if hang.is_some() {
            return std::future::pending().await;
        }
        if self.faults.take_named("drop", Some(&first), &name).is_some() {
            return Err(Cut::Fault);
        }
        if self.faults.take("garble", Some(&first)).is_some() {
            return self.say("{\"ok\":").await;
        }
        match kept {
            Ok(id) => self.say(&format!("250 2.0.0 Ok: queued as {id}")).await,
            Err(_) => self.say("451 4.3.0 The spool cannot be written").await,
        }
    }

    /// A message as it was before dots were doubled; `None` if it is too big.
    async fn message(&mut self) -> Result<Option<Vec<u8>>, Cut> {
        let mut message = Vec::new();
        let mut too_big = false;
        loop {
            let line = self.line().await?.ok_or(Cut::Socket)?;
            let Some(text) = unstuffed(&line) else {
                return Ok((!too_big).then_some(message));
            };
            too_big |= message.len() + text.len() > MESSAGE_LIMIT_BYTES;
            if !too_big {
                message.extend_from_slice(text);
            }
        }
    }
}

/// What a message is called in its header; nothing if it has no name.
fn message_id(message: &[u8]) -> &[u8] {
    const FIELD: &[u8] = b"message-id:";
    let mut header = message.split(|byte| *byte == b'\n').take_while(|line| !line.trim_ascii().is_empty());
    let found = header.find(|line| line.get(..FIELD.len()).is_some_and(|start| start.eq_ignore_ascii_case(FIELD)));
    found.map(|line| line[FIELD.len()..].trim_ascii()).unwrap_or_default()
}

/// A line of a message without its doubled dot; `None` for the dot that ends the message.
fn unstuffed(line: &[u8]) -> Option<&[u8]> {
    match line {
        b".\r\n" | b".\n" => None,
        [b'.', rest @ ..] => Some(rest),
        whole => Some(whole),
    }
}

/// The address between angle brackets after `keyword`, and what follows it.
fn path<'a>(rest: &'a str, keyword: &str) -> Option<(&'a str, &'a str)> {
    let (start, rest) = rest.trim_start().split_at_checked(keyword.len())?;
    if !start.eq_ignore_ascii_case(keyword) {
        return None;
    }
    rest.trim_start().strip_prefix('<')?.split_once('>')
}

#[cfg(test)]
mod tests {
    use super::{Session, message_id, path, unstuffed};
    use crate::faults::Faults;
    use crate::mail::spool::{Envelope, Spool};

    #[test]
    fn a_doubled_dot_is_one_dot_and_a_lone_one_ends_the_message() {
        assert_eq!(unstuffed(b".\r\n"), None);
        assert_eq!(unstuffed(b"..\r\n"), Some(&b".\r\n"[..]));
        assert_eq!(unstuffed(b"..x\r\n"), Some(&b".x\r\n"[..]));
        assert_eq!(unstuffed(b"a.b\r\n"), Some(&b"a.b\r\n"[..]));
        assert_eq!(unstuffed(b"\r\n"), Some(&b"\r\n"[..]));
    }

    #[test]
    fn addresses_are_read_between_brackets() {
        assert_eq!(path("FROM:<a@b> SIZE=5", "FROM:"), Some(("a@b", " SIZE=5")));
        assert_eq!(path("from: <>", "FROM:"), Some(("", "")));
        assert_eq!(path("TO:a@b", "TO:"), None);
        assert_eq!(path("é", "TO:"), None);
    }

    #[test]
    fn a_message_is_called_what_its_header_says() {
        assert_eq!(message_id(b"Subject: Hi\r\nMessage-ID: <1@x>\r\n\r\nText\r\n"), b"<1@x>");
        assert_eq!(message_id(b"Subject: Hi\r\n\r\nMessage-ID: <1@x>\r\n"), b"");
    }

    async fn conversation(text: &str, spool: &Spool) -> String {
        let mut answers = Vec::new();
        let mut session = Session {
            read: text.as_bytes(),
            write: &mut answers,
            spool: spool.clone(),
            faults: Faults::new(),
            envelope: Envelope::default(),
            from_given: false,
        };
        _ = session.run().await;
        String::from_utf8(answers).unwrap()
    }

    #[tokio::test]
    async fn a_pipelined_message_is_in_the_spool_after_a_restart() {
        let folder = std::env::temp_dir().join(format!("standin-mail-{}", uuid::Uuid::new_v4()));
        let spool = Spool::open(&folder).await.unwrap();
        let text = "EHLO me\r\nMAIL FROM:<a@example.test> BODY=8BITMIME\r\nRCPT TO:<b@example.test>\r\nDATA\r\n\
                    Subject: Hi\r\n\r\n..dot\r\n.\r\nQUIT\r\n";
        let answers = conversation(text, &spool).await;
        assert!(answers.contains("354 ") && answers.contains("250 2.0.0 Ok: queued as "), "{answers}");
        assert!(answers.ends_with("221 2.0.0 Bye\r\n"));

        let again = Spool::open(&folder).await.unwrap();
        let letters = again.letters();
        assert_eq!(letters.len(), 1);
        assert_eq!((letters[0].subject.as_str(), letters[0].text.trim_end()), ("Hi", ".dot"));
        assert_eq!(letters[0].to[0].address, "b@example.test");
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[tokio::test]
    async fn commands_out_of_order_are_refused() {
        let folder = std::env::temp_dir().join(format!("standin-mail-{}", uuid::Uuid::new_v4()));
        let spool = Spool::open(&folder).await.unwrap();
        let answers = conversation("RCPT TO:<b@example.test>\r\nDATA\r\nMAIL FROM:a\r\nWHAT\r\n", &spool).await;
        let codes: Vec<&str> = answers.lines().map(|line| &line[..3]).collect();
        assert_eq!(codes, ["220", "503", "503", "501", "500"]);
        std::fs::remove_dir_all(folder).unwrap();
    }
}
