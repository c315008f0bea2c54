//! Lines of a file or of stdin, read ahead on a thread, so that a signal is heard while stdin is silent.

use std::fs::{File, Metadata};
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use super::exit::scarce;

/// The longest line: a book with its pictures.
const LINE_BYTES_MAX: usize = 64 << 20;

/// Some programs begin a file of UTF-8 with it. It is not seen in an editor, so a complaint would not be understood.
const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// Lines are handed over in parts of about this size.
const PART_BYTES: usize = 1 << 20;

/// Parts that wait.
const PARTS_MAX: usize = 4;

const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Lines with their numbers, counted from 1, without the ends of lines.
pub(super) type Part = Vec<(u64, Vec<u8>)>;

pub(super) struct Input {
    parts: Receiver<Result<Part, String>>,
    /// Bytes of the file; none of a pipe.
    len: Option<u64>,
    /// Bytes of the lines that were handed over, with their ends.
    read: u64,
}

/// What comes next.
pub(super) enum Next {
    Part(Part),
    /// Nothing yet; look at signals.
    Nothing,
    End,
}

impl Input {
    /// `-` is stdin.
    pub(super) fn open(path: &Path) -> Result<Self, String> {
        let mut name = path.display().to_string();
        let mut len = None;
        let source: Box<dyn Read + Send> = if path.as_os_str() == "-" {
            name = "stdin".to_owned();
            Box::new(std::io::stdin())
        } else {
            let file = File::open(path)
                .map_err(|error| format!("cannot open {name}: {error}; check the name and the mode"))?;
            len = file.metadata().ok().filter(Metadata::is_file).map(|metadata| metadata.len());
            Box::new(file)
        };
        let (sender, parts) = sync_channel(PARTS_MAX);
        let reading = thread::Builder::new().name("input".to_owned()).spawn(move || {
            if let Err(why) = read(source, &sender) {
                // Who does not listen any more does not want to know.
                let _ = sender.send(Err(format!("cannot read {name}: {why}")));
            }
        });
        reading.map_err(|error| scarce("cannot start a thread", &error))?;
        Ok(Input { parts, len, read: 0 })
    }

    /// How many lines there will be, if they go on as long as they were up to line `number`, the last one handed over.
    pub(super) fn lines(&self, number: u64) -> Option<u64> {
        let lines = u128::from(number) * u128::from(self.len?) / u128::from(self.read.max(1));
        u64::try_from(lines).ok()
    }

    /// Waits a moment at most.
    pub(super) fn next(&mut self) -> Result<Next, String> {
        match self.parts.recv_timeout(LOOK_AGAIN) {
            Ok(part) => part.map(|part| {
                self.read += part.iter().map(|(_, line)| line.len() as u64 + 1).sum::<u64>();
                Next::Part(part)
            }),
            Err(RecvTimeoutError::Timeout) => Ok(Next::Nothing),
            Err(RecvTimeoutError::Disconnected) => Ok(Next::End),
        }
    }
}

fn read(source: Box<dyn Read + Send>, sender: &SyncSender<Result<Part, String>>) -> Result<(), String> {
    let mut source = BufReader::with_capacity(256 << 10, source);
    let (mut part, mut bytes, mut number) = (Part::new(), 0, 0);
    loop {
        let mut line = Vec::new();
        let read = source.by_ref().take(LINE_BYTES_MAX as u64 + 1).read_until(b'\n', &mut line);
        let read = read.map_err(|error| error.to_string())?;
        if read == 0 {
            break;
        }
        number += 1;
        if line.len() > LINE_BYTES_MAX {
            return Err(format!("line {number} is longer than {LINE_BYTES_MAX} bytes"));
        }
        bytes += line.len();
        if number == 1 && line.starts_with(BYTE_ORDER_MARK) {
            line.drain(..BYTE_ORDER_MARK.len());
        }
        while line.last().is_some_and(|end| matches!(end, b'\n' | b'\r')) {
            line.pop();
        }
        part.push((number, line));
        if bytes >= PART_BYTES {
            bytes = 0;
            if sender.send(Ok(std::mem::take(&mut part))).is_err() {
                return Ok(());
            }
        }
    }
    let _ = sender.send(Ok(part));
    Ok(())
}
