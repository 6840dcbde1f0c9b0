//! A link between a client and a server: what the network, a firewall or a moving address does to connections.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

/// Passes connections on to a server, which can be another one later. Its thread ends with the test's process.
#[derive(Debug)]
pub struct Link {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    /// Where connections go. `None` means that they are refused.
    server: Option<SocketAddr>,
    /// How long each answer takes to arrive.
    delay: Duration,
    open: Vec<TcpStream>,
}

impl Link {
    /// Listens on a free port and passes connections on to `server`.
    ///
    /// # Panics
    /// Panics when no port can be had.
    pub fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap_or_else(|error| panic!("no free port: {error}"));
        let address = listener.local_addr().unwrap_or_else(|error| panic!("no address: {error}"));
        let state = State { server: Some(server), delay: Duration::ZERO, open: Vec::new() };
        let state = Arc::new(Mutex::new(state));
        let link = Self { address, state: Arc::clone(&state) };
        thread::spawn(move || {
            for near in listener.incoming().flatten() {
                let state = Arc::clone(&state);
                // An unreachable server must not keep the next connection waiting.
                thread::spawn(move || connect(near, &state));
            }
        });
        link
    }

    /// Where clients connect to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends all connections, and refuses new ones until [`Link::lead_to`].
    pub fn cut(&self) {
        self.change(|state| state.server = None);
    }

    /// Ends all connections, and passes new ones on to `server`.
    pub fn lead_to(&self, server: SocketAddr) {
        self.change(|state| state.server = Some(server));
    }

    /// Makes each part of an answer arrive so much later.
    pub fn delay_answers(&self, delay: Duration) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).delay = delay;
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut state);
        for stream in state.open.drain(..) {
            let _ = stream.shutdown(std::net::Shutdown::Both);
        }
    }
}

fn connect(near: TcpStream, state: &Arc<Mutex<State>>) {
    let lock = || state.lock().unwrap_or_else(PoisonError::into_inner);
    let server = lock().server;
    let Some(Ok(far)) = server.map(TcpStream::connect) else { return };
    let copies = (near.try_clone(), far.try_clone(), near.try_clone(), far.try_clone());
    let (Ok(near_too), Ok(far_too), Ok(near_end), Ok(far_end)) = copies else { return };
    {
        let mut state = lock();
        // It was cut, or leads elsewhere, since.
        if state.server != server {
            return;
        }
        state.open.extend([near_end, far_end]);
    }
    thread::spawn(move || pass_on(near, far, || Duration::ZERO));
    pass_on(far_too, near_too, || lock().delay);
}

fn pass_on(mut from: TcpStream, mut to: TcpStream, delay: impl Fn() -> Duration) {
    let mut buffer = [0; 16_384];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        thread::sleep(delay());
        if to.write_all(buffer.get(..length).unwrap_or_default()).is_err() {
            break;
        }
    }
    let _ = to.shutdown(std::net::Shutdown::Both);
}
