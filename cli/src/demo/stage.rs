//! The demo's folder and its processes: real ones, started as a person would start them, each with a log of its own.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use super::relay::{Answer, Line, Seen};
use crate::exit::{Exit, fail};

/// Marks a folder as the demo's own, so that `--fresh` never removes anything else.
const MARKER: &str = ".koinon-demo";

/// How long a process gets to end after it was asked to.
const STOP_PATIENCE: Duration = Duration::from_secs(10);

/// The folder, the program itself, and everything that runs.
pub(crate) struct Stage {
    pub(crate) dir: PathBuf,
    exe: PathBuf,
    running: BTreeMap<String, Child>,
}

impl Stage {
    /// Makes the folder. An existing one is refused unless `fresh`, which removes it only if a demo made it.
    pub(crate) fn open(dir: &Path, fresh: bool) -> anyhow::Result<Stage> {
        if dir.exists() {
            let ours = dir.join(MARKER).exists();
            if !ours || !fresh {
                let advice = if ours {
                    "exists already; look at what the last run left there, then use --fresh to replace it or --dir for another place"
                } else {
                    "exists already and was not made by a demo, so it is left alone, also with --fresh; choose another place with --dir"
                };
                return Err(fail(Exit::Config, format!("{} {advice}", dir.display())));
            }
            fs::remove_dir_all(dir).with_context(|| format!("cannot remove {}", dir.display()))?;
        }
        fs::create_dir_all(dir.join("logs"))
            .with_context(|| format!("cannot make {}", dir.display()))?;
        fs::write(dir.join(MARKER), "made by `koinon demo`\n")?;
        let exe = std::env::current_exe().context("cannot find the program's own path")?;
        Ok(Stage { dir: dir.canonicalize()?, exe, running: BTreeMap::new() })
    }

    /// A path in the folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Runs `koinon WORDS…` to its end and gives what it printed.
    pub(crate) fn call(&self, words: &[&str]) -> anyhow::Result<String> {
        let output = Command::new(&self.exe)
            .args(words)
            .current_dir(&self.dir)
            .stdin(Stdio::null())
            .output()
            .context("cannot start a process")?;
        if !output.status.success() {
            bail!(
                "`koinon {}` failed: {}",
                words.first().copied().unwrap_or_default(),
                String::from_utf8_lossy(&output.stderr).trim()
            );
        }
        String::from_utf8(output.stdout).context("a process printed no text")
    }

    /// Starts `koinon WORDS…` in the background under a name; its output goes to `logs/NAME.log`.
    pub(crate) fn start(&mut self, name: &str, words: &[&str]) -> anyhow::Result<()> {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.dir.join("logs").join(format!("{name}.log")))?;
        let child = Command::new(&self.exe)
            .args(words)
            .current_dir(&self.dir)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        self.running.insert(name.into(), child);
        Ok(())
    }

    /// `kill -9`, now.
    pub(crate) fn kill(&mut self, name: &str) -> anyhow::Result<()> {
        let mut child =
            self.running.remove(name).with_context(|| format!("{name} does not run"))?;
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    /// Asks a process to end (SIGTERM) and waits for it.
    pub(crate) fn stop(&mut self, names: &[String]) -> anyhow::Result<()> {
        for name in names {
            if let Some(child) = self.running.get(name) {
                // The shell's built-in `kill`: sending a signal needs no unsafe code of ours.
                let command = format!("kill -TERM {}", child.id());
                Command::new("sh").args(["-c", &command]).status()?;
            }
        }
        let deadline = Instant::now() + STOP_PATIENCE;
        for name in names {
            let Some(mut child) = self.running.remove(name) else { continue };
            while child.try_wait()?.is_none() {
                if Instant::now() > deadline {
                    child.kill()?;
                    child.wait()?;
                    bail!("{name} did not end within {} s of being asked", STOP_PATIENCE.as_secs());
                }
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        Ok(())
    }

    /// The names of all that runs.
    pub(crate) fn names(&self) -> Vec<String> {
        self.running.keys().cloned().collect()
    }

    /// A process that ended although nobody asked it to, with the end of its log.
    pub(crate) fn fallen(&mut self) -> anyhow::Result<Option<String>> {
        let dir = self.dir.clone();
        for (name, child) in &mut self.running {
            if let Some(status) = child.try_wait()? {
                let log = fs::read_to_string(dir.join("logs").join(format!("{name}.log")));
                let log = log.unwrap_or_default();
                let tail: Vec<&str> = log.lines().rev().take(3).collect();
                return Ok(Some(format!(
                    "{name} ended by itself ({status}): {}",
                    tail.join(" | ")
                )));
            }
        }
        Ok(None)
    }

    /// Starts the relay in front of `lines`.
    pub(crate) fn relay(&self, lines: &[Line]) -> anyhow::Result<Relay> {
        let mut child = Command::new(&self.exe)
            .args(["demo-part", "relay"])
            .args(lines.iter().map(|l| format!("{}={}", l.name, l.target)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot start the relay")?;
        let commands = child.stdin.take().context("the relay has no input")?;
        let answers = BufReader::new(child.stdout.take().context("the relay has no output")?);
        let mut relay = Relay { child, commands, answers, ports: BTreeMap::new() };
        match relay.answer()? {
            Answer::Ports(ports) => relay.ports = ports,
            Answer::Counts(_) => bail!("the relay counted before it was asked"),
        }
        Ok(relay)
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        for child in self.running.values_mut() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The counting relay, as a process of its own.
pub(crate) struct Relay {
    child: Child,
    commands: ChildStdin,
    answers: BufReader<ChildStdout>,
    ports: BTreeMap<String, u16>,
}

impl Relay {
    /// The relay's port for a line.
    pub(crate) fn port(&self, name: &str) -> anyhow::Result<u16> {
        self.ports.get(name).copied().with_context(|| format!("the relay has no line {name}"))
    }

    /// Bytes seen so far, by line.
    pub(crate) fn counts(&mut self) -> anyhow::Result<BTreeMap<String, Seen>> {
        writeln!(self.commands, "count")?;
        match self.answer()? {
            Answer::Counts(counts) => Ok(counts),
            Answer::Ports(_) => bail!("the relay answered with ports"),
        }
    }

    /// Limits a site's line to `rate` bytes a second.
    pub(crate) fn slow(&mut self, name: &str, rate: u64) -> anyhow::Result<()> {
        Ok(writeln!(self.commands, "slow {name} {rate}")?)
    }

    /// Lifts the limit.
    pub(crate) fn fast(&mut self, name: &str) -> anyhow::Result<()> {
        Ok(writeln!(self.commands, "fast {name}")?)
    }

    fn answer(&mut self) -> anyhow::Result<Answer> {
        let mut line = String::new();
        if self.answers.read_line(&mut line)? == 0 {
            bail!("the relay ended");
        }
        serde_json::from_str(&line).context("the relay's answer is not understood")
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A port that is free right now.
pub(crate) fn free_port() -> anyhow::Result<u16> {
    // Below the ports that the system gives away by itself: no connection of the demo takes a server's port while that
    // server is dead or has not begun.
    const FIRST: u32 = 20_000;
    const COUNT: u32 = 12_000;
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let start = std::process::id().wrapping_mul(37) % COUNT;
    for _ in 0..COUNT {
        let at = (start + NEXT.fetch_add(1, Ordering::Relaxed)) % COUNT;
        let port = u16::try_from(FIRST + at)?;
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("no port between {FIRST} and {} is free", FIRST + COUNT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_no_demo_made_is_never_removed() {
        let home = std::env::temp_dir().join(format!("koinon-stage-{}", std::process::id()));
        let precious = home.join("precious");
        fs::create_dir_all(&precious).unwrap();
        fs::write(precious.join("thesis.txt"), "years").unwrap();
        for fresh in [false, true] {
            let refused = Stage::open(&precious, fresh).err().unwrap();
            assert_eq!(crate::exit::code_of(&refused), 3);
            let text = refused.to_string();
            assert!(text.contains("not made by a demo") && text.contains("--dir"), "{text}");
            assert!(!text.contains("use --fresh"), "that would be refused too: {text}");
        }
        assert!(precious.join("thesis.txt").exists());
        let ours = home.join("ours");
        drop(Stage::open(&ours, false).unwrap());
        assert!(Stage::open(&ours, false).err().unwrap().to_string().contains("--fresh"));
        Stage::open(&ours, true).unwrap();
        fs::remove_dir_all(&home).unwrap();
    }
}
