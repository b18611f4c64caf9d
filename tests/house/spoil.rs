//! Answers of PostgreSQL that are spoilt on the wire, at the database's own word.
//!
//! A trigger that raises the notice `link: lose`, `link: garble` or `link: hold` marks its transaction. Nothing happens until
//! that has been committed; then its answer is lost with the connection, is bytes that mean nothing, or never comes. So the
//! work is done and whoever asked for it cannot know.

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy};
use tokio::net::TcpStream;

const NOTICES: [(&[u8], Spoilt); 3] =
    [(b"link: lose", Spoilt::Lost), (b"link: garble", Spoilt::Garbled), (b"link: hold", Spoilt::Held)];
/// `ReadyForQuery` outside of a transaction. Source: PostgreSQL, "Message Formats".
const IDLE: &[u8] = b"Z\0\0\0\x05I";
const CHUNK_BYTES: usize = 64 << 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Spoilt {
    Lost,
    Garbled,
    Held,
}

/// Carries one connection to its end.
pub(crate) async fn carry_answers(near: TcpStream, far: TcpStream) {
    let (mut asked, answered) = near.into_split();
    let (from, mut to) = far.into_split();
    tokio::select! {
        _ = copy(&mut asked, &mut to) => {}
        () = answers(from, answered) => {}
    }
}

async fn answers(mut from: impl AsyncReadExt + Unpin, mut to: impl AsyncWriteExt + Unpin) {
    let (mut chunk, mut ordered) = (vec![0; CHUNK_BYTES], None);
    while let Ok(length @ 1..) = from.read(&mut chunk).await {
        let answer = &mut chunk[..length];
        ordered = ordered.or_else(|| NOTICES.into_iter().find(|(words, _)| holds(answer, words)).map(|(_, how)| how));
        match ordered.filter(|_| holds(answer, IDLE)) {
            None => {}
            Some(Spoilt::Lost) => return,
            Some(Spoilt::Held) => std::future::pending().await,
            Some(Spoilt::Garbled) => answer.fill(0xff),
        }
        if to.write_all(answer).await.is_err() {
            return;
        }
    }
}

fn holds(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn carried(said: &[&[u8]]) -> Vec<u8> {
        let (mut server, from) = tokio::io::duplex(CHUNK_BYTES);
        let (to, mut client) = tokio::io::duplex(CHUNK_BYTES);
        let carrier = tokio::spawn(answers(from, to));
        for piece in said {
            server.write_all(piece).await.expect("said");
            tokio::task::yield_now().await;
        }
        drop(server);
        carrier.await.expect("carried");
        let mut heard = Vec::new();
        client.read_to_end(&mut heard).await.expect("heard");
        heard
    }

    #[tokio::test]
    async fn an_answer_is_lost_only_after_its_transaction_was_committed() {
        let inside: &[u8] = b"N....link: lose....Z\0\0\0\x05T";
        assert_eq!(carried(&[inside]).await, inside);
        assert_eq!(carried(&[b"N..link: lose..C..COMMIT\0Z\0\0\0\x05I"]).await, b"");
        assert_eq!(carried(&[b"C..COMMIT\0Z\0\0\0\x05I"]).await, b"C..COMMIT\0Z\0\0\0\x05I");
        assert_eq!(carried(&[b"N..link: garble..Z\0\0\0\x05I"]).await, [0xff; 23]);
    }
}
