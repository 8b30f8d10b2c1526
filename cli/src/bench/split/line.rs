//! A line of a stated round trip and bandwidth, between two sockets of this machine.
//!
//! Everything that comes in leaves half a round trip after its last byte has passed the line, one piece
//! behind the other, as through one long wire with a queue before it; nothing is lost. Plain threads: a
//! timer of the operating system is late by more than a fast line's delay, so the last part of each
//! wait is spent looking at the clock. Start at [`Line::open`].

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

/// What a line is like.
#[derive(Clone, Copy, Debug)]
pub(super) struct Line {
    pub(super) rtt: Duration,
    pub(super) bytes_per_s: f64,
}

/// A timer may be late by this much.
const LATE: Duration = Duration::from_micros(150);

impl Line {
    /// Listens on a port of its own and leads every connection to `target`; gives the address.
    pub(super) fn open(self, target: SocketAddr) -> std::io::Result<SocketAddr> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let address = listener.local_addr()?;
        thread::spawn(move || {
            for near in listener.incoming().flatten() {
                let Ok(far) = TcpStream::connect(target) else { continue };
                let _ = self.join(&near, &far);
            }
        });
        Ok(address)
    }

    fn join(self, near: &TcpStream, far: &TcpStream) -> std::io::Result<()> {
        near.set_nodelay(true)?;
        far.set_nodelay(true)?;
        for (from, to) in [(near, far), (far, near)] {
            let (from, to) = (from.try_clone()?, to.try_clone()?);
            let (sender, receiver) = channel();
            thread::spawn(move || self.read(from, &sender));
            thread::spawn(move || deliver(to, &receiver));
        }
        Ok(())
    }

    fn read(self, mut from: TcpStream, pieces: &Sender<(Instant, Vec<u8>)>) {
        let mut buffer = vec![0; 16 << 10];
        let mut free = Instant::now();
        while let Ok(n @ 1..) = from.read(&mut buffer) {
            let length = u32::try_from(n).map_or(f64::MAX, f64::from);
            free = free.max(Instant::now()) + Duration::from_secs_f64(length / self.bytes_per_s);
            if pieces.send((free + self.rtt / 2, buffer[..n].to_vec())).is_err() {
                return;
            }
        }
    }
}

fn deliver(mut to: TcpStream, pieces: &Receiver<(Instant, Vec<u8>)>) {
    for (due, piece) in pieces {
        while let Some(left) = due.checked_duration_since(Instant::now()) {
            match left.checked_sub(LATE) {
                Some(long) => thread::sleep(long),
                None => thread::yield_now(),
            }
        }
        if to.write_all(&piece).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_through_is_whole_and_as_late_as_stated() {
        let server = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let target = server.local_addr().unwrap();
        thread::spawn(move || {
            let (mut stream, _) = server.accept().unwrap();
            let mut bytes = vec![0; 50_000];
            stream.read_exact(&mut bytes).unwrap();
            stream.write_all(&bytes[..10]).unwrap();
        });
        let line = Line { rtt: Duration::from_millis(20), bytes_per_s: 5e6 };
        let mut near = TcpStream::connect(line.open(target).unwrap()).unwrap();
        let started = Instant::now();
        let sent: Vec<u8> = (0..50_000u32).map(|at| at.to_le_bytes()[0]).collect();
        near.write_all(&sent).unwrap();
        let mut back = [0; 10];
        near.read_exact(&mut back).unwrap();
        assert_eq!(back, sent[..10]);
        assert!(started.elapsed() >= Duration::from_millis(30), "20 ms and 50,000 bytes");
    }
}
