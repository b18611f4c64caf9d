//! A cable one can pull: a TCP relay on 127.0.0.1 between the portal and a server it needs.

use std::net::{Ipv4Addr, TcpListener as BoundListener};
use std::thread;

use anyhow::{Context, Result};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use url::Url;

use crate::ports::free_port;
use crate::spoil::carry_answers;

/// A link that was made; dropping it cuts it for good.
#[derive(Debug)]
pub struct Link {
    url: Url,
    orders: mpsc::UnboundedSender<Order>,
}

#[derive(Debug)]
struct Order {
    up: bool,
    done: oneshot::Sender<Result<()>>,
}

impl Link {
    /// Makes a link to the server in `url`, which may be of any scheme and has a host and a port.
    ///
    /// It works on a thread of its own, because the tests' runtimes come and go.
    pub(crate) fn to(url: &Url) -> Result<Self> {
        Self::make(url, false)
    }

    /// The same to PostgreSQL, whose answers the database itself can have spoilt: see [`crate::spoil`].
    pub(crate) fn to_database(url: &Url) -> Result<Self> {
        Self::make(url, true)
    }

    fn make(url: &Url, spoils: bool) -> Result<Self> {
        let target = (url.host_str().context("no host to link to")?.to_owned(), url.port().context("no port")?);
        let port = free_port()?;
        let listener = BoundListener::bind((Ipv4Addr::LOCALHOST, port))?;
        listener.set_nonblocking(true)?;
        let (orders, taken) = mpsc::unbounded_channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        thread::spawn(move || runtime.block_on(relay(listener, port, (target, spoils), taken)));
        let mut own = url.clone();
        own.set_host(Some("127.0.0.1")).context("a scheme without hosts")?;
        own.set_port(Some(port)).ok().context("a scheme without ports")?;
        Ok(Self { url: own, orders })
    }

    /// The server's address through this link.
    pub(crate) fn url(&self) -> &Url {
        &self.url
    }

    /// Closes every connection and refuses new ones; a link that is cut stays cut.
    pub async fn cut(&self) -> Result<()> {
        self.order(false).await
    }

    /// Lets new connections through again; a link that is whole stays whole.
    pub async fn heal(&self) -> Result<()> {
        self.order(true).await
    }

    async fn order(&self, up: bool) -> Result<()> {
        let (done, answer) = oneshot::channel();
        self.orders.send(Order { up, done }).ok().context("the link's thread is gone")?;
        answer.await.context("the link's thread is gone")?
    }
}

type Far = ((String, u16), bool);

async fn relay(bound: BoundListener, port: u16, target: Far, mut orders: mpsc::UnboundedReceiver<Order>) {
    let mut listener = TcpListener::from_std(bound).ok();
    let mut open = JoinSet::new();
    loop {
        tokio::select! {
            order = orders.recv() => {
                let Some(Order { up, done }) = order else { return };
                let mut outcome = Ok(());
                if !up {
                    listener = None;
                    open.shutdown().await;
                } else if listener.is_none() {
                    match TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await {
                        Ok(bound) => listener = Some(bound),
                        Err(fault) => outcome = Err(fault.into()),
                    }
                }
                let _ = done.send(outcome);
            }
            accepted = accept(listener.as_ref()) => {
                if let Some(socket) = accepted {
                    open.spawn(carry(socket, target.clone()));
                }
            }
            Some(_) = open.join_next() => {}
        }
    }
}

async fn accept(listener: Option<&TcpListener>) -> Option<TcpStream> {
    match listener {
        Some(listener) => listener.accept().await.ok().map(|(socket, _)| socket),
        None => std::future::pending().await,
    }
}

async fn carry(mut near: TcpStream, (target, spoils): Far) {
    if let Ok(mut far) = TcpStream::connect(target).await {
        let _ = (near.set_nodelay(true), far.set_nodelay(true));
        if spoils {
            carry_answers(near, far).await;
        } else {
            let _ = copy_bidirectional(&mut near, &mut far).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[tokio::test]
    async fn a_cut_link_closes_what_is_open_and_refuses_what_comes_until_it_is_healed() {
        let echo = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url: Url = format!("http://{}", echo.local_addr().expect("an address")).parse().expect("a URL");
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = echo.accept().await {
                tokio::spawn(async move {
                    let (mut read, mut write) = socket.split();
                    tokio::io::copy(&mut read, &mut write).await
                });
            }
        });
        let link = Link::to(&url).expect("a link");
        let address = ("127.0.0.1", link.url().port().expect("a port"));
        let mut socket = TcpStream::connect(address).await.expect("a connection");
        let mut heard = [0; 4];
        socket.write_all(b"ping").await.expect("sent");
        socket.read_exact(&mut heard).await.expect("heard");
        assert_eq!(&heard, b"ping");
        link.cut().await.expect("cut");
        assert!(matches!(socket.read(&mut heard).await, Ok(0) | Err(_)), "still open");
        assert!(TcpStream::connect(address).await.is_err(), "a cut link took a connection");
        link.heal().await.expect("healed");
        let mut socket = TcpStream::connect(address).await.expect("a connection");
        socket.write_all(b"pong").await.expect("sent");
        socket.read_exact(&mut heard).await.expect("heard");
        assert_eq!(&heard, b"pong");
    }
}
