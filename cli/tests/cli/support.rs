//! Runs the program and looks at what it says. Nothing here knows what is right; that is in the tests.

use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

/// The program under test.
pub(crate) const KOINON: &str = env!("CARGO_BIN_EXE_koinon");

/// What a run of the program gave.
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ran {
    fn of(output: &Output) -> Ran {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let code = output.status.code().unwrap_or(-1);
        Ran { code, out: text(&output.stdout), err: text(&output.stderr) }
    }

    /// Insists on an exit code and on words of the message on standard error.
    #[track_caller]
    pub(crate) fn fails(&self, code: i32, words: &[&str]) {
        let all = format!("exit code {}\n{}\n{}", self.code, self.out, self.err);
        assert_eq!(self.code, code, "{all}");
        assert!(!self.err.contains("panicked"), "{all}");
        for word in words {
            assert!(self.err.contains(word), "`{word}` is not said:\n{all}");
        }
    }

    /// Insists on success; gives what was printed.
    #[track_caller]
    pub(crate) fn good(self) -> String {
        assert_eq!(self.code, 0, "{}\n{}", self.out, self.err);
        self.out
    }

    /// The output as JSON, one object or list.
    #[track_caller]
    pub(crate) fn json(self) -> serde_json::Value {
        let out = self.good();
        serde_json::from_str(&out).unwrap_or_else(|e| panic!("{e}: {out}"))
    }
}

/// Runs the program in a folder to its end.
pub(crate) fn koinon(dir: &Path, words: &[&str]) -> Ran {
    let output = command(dir, words).stdin(Stdio::null()).output().unwrap();
    Ran::of(&output)
}

fn command(dir: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(KOINON);
    command.current_dir(dir).args(words).env_remove("KOINON_LOG");
    for name in ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"] {
        command.env_remove(name);
    }
    command
}

/// A process that goes on; killed when it is dropped.
pub(crate) struct Running {
    child: Child,
    log: PathBuf,
}

impl Running {
    /// Starts the program; its words go to `NAME.log` in the folder.
    pub(crate) fn start(dir: &Path, name: &str, words: &[&str]) -> Running {
        Running::spawn(dir, name, command(dir, words))
    }

    /// Starts the program where no file may grow over `kib` KiB, as on a full disk.
    #[cfg(unix)]
    pub(crate) fn start_on_a_full_disk(
        dir: &Path,
        name: &str,
        kib: u32,
        words: &[&str],
    ) -> Running {
        let script = format!("ulimit -f {kib}; trap '' XFSZ; exec \"$@\"");
        let mut command = Command::new("bash");
        command.current_dir(dir).args(["-c", &script, "bash", KOINON]).args(words);
        Running::spawn(dir, name, command)
    }

    fn spawn(dir: &Path, name: &str, mut command: Command) -> Running {
        let log = dir.join(format!("{name}.log"));
        let file = std::fs::File::create(&log).unwrap();
        command.stdin(Stdio::null()).stdout(file.try_clone().unwrap()).stderr(file);
        Running { child: command.spawn().unwrap(), log }
    }

    /// `kill -9`.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM, and the exit code.
    #[cfg(unix)]
    pub(crate) fn terminate(self) -> i32 {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        self.ended()
    }

    /// Waits for the end by itself; gives the exit code.
    pub(crate) fn ended(mut self) -> i32 {
        let (child, log) = (&mut self.child, &self.log);
        let mut code = None;
        wait_until(
            || {
                code = child.try_wait().unwrap();
                code.is_some()
            },
            || format!("the process does not end:\n{}", read(log)),
        );
        code.and_then(|status| status.code()).unwrap_or(-1)
    }

    /// What it said so far.
    pub(crate) fn said(&self) -> String {
        read(&self.log)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits up to a minute for something to be so.
#[track_caller]
pub(crate) fn wait_until(mut so: impl FnMut() -> bool, otherwise: impl Fn() -> String) {
    let start = Instant::now();
    while !so() {
        assert!(start.elapsed() < Duration::from_secs(60), "{}", otherwise());
        std::thread::sleep(Duration::from_millis(25));
    }
}

/// Waits until something listens on a port of this machine.
pub(crate) fn wait_for_port(port: u16) {
    let up = || TcpStream::connect(("127.0.0.1", port)).is_ok();
    wait_until(up, || format!("nothing listens on {port}"));
}

/// A port that was free a moment ago.
pub(crate) fn free_port() -> u16 {
    // Below the ports that the system gives away by itself: nobody's connection takes it before its server listens.
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = u16::try_from(std::process::id() % 9_000).unwrap();
    let ports = std::iter::repeat_with(|| {
        10_000 + (first + NEXT.fetch_add(1, Ordering::Relaxed) % 9_000) % 9_000
    });
    let mut free = ports.filter(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok());
    free.next().unwrap()
}

/// The text of a file, or nothing.
pub(crate) fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

/// Replaces a piece of a file that must be there.
#[track_caller]
pub(crate) fn edit(path: &Path, from: &str, to: &str) {
    let text = read(path);
    assert!(text.contains(from), "{} has no `{from}`:\n{text}", path.display());
    std::fs::write(path, text.replacen(from, to, 1)).unwrap();
}

/// The repository.
pub(crate) fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

/// Makes files private or not.
#[cfg(unix)]
pub(crate) fn set_mode(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}
