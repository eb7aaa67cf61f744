//! A proxy that counts what it passes on, and may change or cut it.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// What is done to the bytes of one direction of each connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Harm {
    None,
    /// One bit of the byte at this place is turned.
    Turn(u64),
    /// The line is cut before this byte.
    Cut(u64),
}

/// Passes connections on.
pub(super) struct Proxy {
    address: SocketAddr,
    bytes: Arc<AtomicU64>,
    /// To the server, and back.
    harm: Arc<Mutex<[Harm; 2]>>,
}

impl Proxy {
    pub fn before(server: SocketAddr) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (bytes, harm) = (Arc::<AtomicU64>::default(), Arc::new(Mutex::new([Harm::None; 2])));
        let proxy = Proxy { address, bytes: bytes.clone(), harm: harm.clone() };
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let client = client.unwrap();
                let Ok(server) = TcpStream::connect(server) else { return };
                let [there, back] = *harm.lock().unwrap();
                pass(&client, &server, there, &bytes);
                pass(&server, &client, back, &bytes);
            }
        });
        proxy
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn harm(&self, there: Harm, back: Harm) {
        *self.harm.lock().unwrap() = [there, back];
    }

    /// Bytes so far, both ways.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::SeqCst)
    }
}

fn pass(from: &TcpStream, to: &TcpStream, harm: Harm, count: &Arc<AtomicU64>) {
    let (mut from, mut to, count) =
        (from.try_clone().unwrap(), to.try_clone().unwrap(), count.clone());
    std::thread::spawn(move || {
        let mut buffer = [0; 16 << 10];
        let mut at = 0;
        while let Ok(read @ 1..) = from.read(&mut buffer) {
            let within = |place: u64| place.checked_sub(at).filter(|i| *i < read as u64);
            let mut length = read;
            match harm {
                Harm::Turn(place) => {
                    within(place).into_iter().for_each(|i| buffer[i as usize] ^= 1)
                }
                Harm::Cut(place) => within(place).into_iter().for_each(|i| length = i as usize),
                Harm::None => {}
            }
            at += read as u64;
            count.fetch_add(length as u64, Ordering::SeqCst);
            if to.write_all(&buffer[..length]).is_err() || length < read {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Both);
        let _ = from.shutdown(Shutdown::Both);
    });
}
