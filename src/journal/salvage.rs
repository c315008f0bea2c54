//! What can still be read of a damaged log, and the log that is left when the rest is cut off. For the offline repair
//! only: whoever opens a log gets all of it or an error, see `scan`.
//!
//! The smallest thing that is believed is a frame, by its own checksum: in a batch that is damaged, the frames before
//! and behind the damage are readable. A [`Piece`] is a run of frames without a gap; a [`Chain`] is a run of pieces
//! without a gap, over as many segments as it takes. Reading changes nothing. [`Change::carry_out`] never destroys a
//! byte: what is cut is kept beside the log under a name of its own, before the log changes.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::disk::{Disk, DiskFile, OpenMode};

use super::batch::{BATCH_BODY_MAX, BATCH_HEADER_BYTES, BATCH_MAGIC, BatchHeader, encode_batch};
use super::frame::{FRAME_HEADER_MIN_BYTES, Frame, decode_frames, outline};
use super::replay::Replay;
use super::scan::{Scanned, Segment, last_nonzero};
use super::segment::{SEGMENT_HEADER_BYTES, TMP_SUFFIX, encode_header, remove_if_there, segment_path};
use super::{LogError, Lsn, file_log};

/// What a file that was set aside is called: its old name and this.
pub const CUT_SUFFIX: &str = ".cut";

/// Says of a frame whether it makes sense to the log's owner; the text is what does not.
pub type Judge<'j> = dyn FnMut(&Frame<'_>) -> Result<(), String> + 'j;

/// A run of frames without a gap that stand one after the other in one segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// Place of the segment in [`Survey::segments`].
    pub segment: usize,
    /// The first frame.
    pub first_lsn: Lsn,
    /// The last frame.
    pub last_lsn: Lsn,
    first_epoch: u32,
    last_epoch: u32,
    offset: u64,
    end: u64,
    /// Whole batches; else single frames of a batch that is damaged elsewhere.
    batches: bool,
}

/// A segment as it was found.
#[derive(Debug, Clone)]
pub struct Surveyed {
    /// The file.
    pub path: PathBuf,
    /// The frame that its name says it begins with.
    pub first_lsn: Lsn,
    /// It can stay as it is.
    pub sound: bool,
    /// Where its last byte that is not zero ends.
    content_end: u64,
}

/// A stretch that is no valid part of the log.
#[derive(Debug, Clone)]
pub struct Hole {
    /// In which segment.
    pub file: PathBuf,
    /// Where it begins, in bytes.
    pub offset: u64,
    /// Its bytes, some of which may be frames that can be read one by one.
    pub bytes: u64,
    /// What is wrong.
    pub why: String,
}

/// All that can be read of a log.
#[derive(Debug, Clone, Default)]
pub struct Survey {
    /// The segments, oldest first.
    pub segments: Vec<Surveyed>,
    /// What is readable, in the order in which it stands.
    pub pieces: Vec<Piece>,
    /// What is not. Segments that are missing are not among them.
    pub holes: Vec<Hole>,
}

/// Pieces that follow one another without a gap.
#[derive(Debug, Clone, Default)]
pub struct Chain {
    /// Places in [`Survey::pieces`].
    pub pieces: Vec<usize>,
    /// The first frame.
    pub first_lsn: Lsn,
    /// The last frame.
    pub last_lsn: Lsn,
}

/// One change of the log's directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A segment is written from what is readable in another one, or in the damaged one of its own name. A file that
    /// has the name is kept aside.
    Write {
        /// Where the frames are.
        from: PathBuf,
        /// The segment.
        to: PathBuf,
        /// The frame that it begins with.
        first_lsn: Lsn,
        /// What goes into it.
        pieces: Vec<Piece>,
        /// Bytes of the old file of that name that are kept aside, zeros at its end left out; `None` if there is none.
        old: Option<u64>,
    },
    /// A segment is set aside.
    Aside {
        /// It.
        file: PathBuf,
    },
}

/// Reads all segments in `dir` and believes of them what is sound. A directory that is not there is an empty log.
/// Somebody knows that events up to `synced` were synced: if they are missing at the end, no crash has torn them off.
///
/// # Errors
/// [`LogError::Io`] if something cannot be read: what that is worth, nobody knows. [`LogError::Corrupt`] for a file
/// that pretends to be a segment. [`LogError::OtherVersion`].
pub fn survey(disk: &dyn Disk, dir: &Path, synced: Lsn, judge: &mut Judge<'_>) -> Result<Survey, LogError> {
    let mut survey = Survey::default();
    match disk.list(dir) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(survey),
        _ => {}
    }
    let names = file_log::list_segments(disk, dir)?;
    for (place, first_lsn) in names.iter().copied().enumerate() {
        let path = segment_path(dir, first_lsn);
        let file = disk.open(&path, OpenMode::Read).map_err(LogError::io("open", &path))?;
        let len = file.len().map_err(LogError::io("measure", &path))?;
        let last = place + 1 == names.len();
        let mut reader = Reader { file, path: &path, len, segment: place, first_lsn, judge, survey: &mut survey };
        let surveyed = match reader.strictly(last, synced)? {
            Some(surveyed) => surveyed,
            None => reader.leniently()?,
        };
        survey.segments.push(surveyed);
    }
    Ok(survey)
}

impl Survey {
    /// The pieces in runs without a gap, oldest first.
    pub fn chains(&self) -> Vec<Chain> {
        let mut order: Vec<usize> = (0..self.pieces.len()).collect();
        // A repair that was cut short may have left the same frames in two segments. The longer run counts; of two that
        // are alike the one in a segment that can stay, or the old, damaged one would speak for what was made of it.
        order.sort_by_key(|place| {
            let piece = &self.pieces[*place];
            (piece.first_lsn, std::cmp::Reverse(piece.last_lsn), !self.segments[piece.segment].sound)
        });
        let mut chains: Vec<Chain> = Vec::new();
        let mut epoch = 0;
        for place in order {
            let piece = &self.pieces[place];
            match chains.last_mut() {
                Some(chain) if piece.last_lsn <= chain.last_lsn => continue,
                Some(chain) if piece.first_lsn == chain.last_lsn + 1 && piece.first_epoch >= epoch => {
                    chain.pieces.push(place);
                    chain.last_lsn = piece.last_lsn;
                }
                _ => chains.push(Chain { pieces: vec![place], first_lsn: piece.first_lsn, last_lsn: piece.last_lsn }),
            }
            epoch = piece.last_epoch;
        }
        chains
    }

    /// What has to be done so that the log is this chain and nothing else, in this order. `end` is the newest frame that
    /// there is then, in the log or in what it goes on from. It may be cut short after any operation and planned anew.
    pub fn changes(&self, dir: &Path, chain: Option<&Chain>, end: Lsn) -> Vec<Change> {
        let mut changes = Vec::new();
        let mut asides = Vec::new();
        for (place, segment) in self.segments.iter().enumerate() {
            let mine: Vec<&Piece> = self.pieces.iter().filter(|piece| piece.segment == place).collect();
            let of_chain = |piece: &usize| self.pieces[*piece].segment == place;
            let kept: Vec<Piece> = chain.map_or(Vec::new(), |chain| {
                chain.pieces.iter().filter(|piece| of_chain(piece)).map(|piece| self.pieces[*piece].clone()).collect()
            });
            let Some(first) = kept.first() else {
                // One that was begun and is empty is where the log goes on.
                let goes_on = segment.first_lsn == end + 1;
                if !(segment.sound && mine.is_empty() && goes_on) {
                    asides.push(Change::Aside { file: segment.path.clone() });
                }
                continue;
            };
            if segment.sound && kept.len() == mine.len() {
                continue;
            }
            let (first_lsn, from) = (first.first_lsn, segment.path.clone());
            let to = segment_path(dir, first_lsn);
            if to != from {
                asides.push(Change::Aside { file: from.clone() });
            }
            let there = self.segments.iter().find(|segment| segment.path == to);
            let old = there.map(|segment| segment.content_end);
            changes.push(Change::Write { from, to, first_lsn, pieces: kept, old });
        }
        // What is written stays: a file that had its name is kept aside by the writing.
        let written: Vec<_> = changes.iter().filter_map(Change::written).collect();
        asides.retain(|aside| !matches!(aside, Change::Aside { file } if written.contains(file)));
        // New segments first: what they are written from is there until they are.
        changes.extend(asides);
        changes
    }

    /// Bytes of content behind frame `upto`, whether or not they can be read.
    pub fn bytes_past(&self, upto: Lsn) -> u64 {
        let holes: u64 = self.holes.iter().map(|hole| hole.bytes).sum();
        let later = self.pieces.iter().filter(|piece| piece.first_lsn > upto && piece.batches);
        holes + later.map(|piece| piece.end - piece.offset).sum::<u64>()
    }

    /// Shows the frames of a chain from `from` on, in order.
    ///
    /// # Errors
    /// [`LogError::Io`], and whatever `visit` answers.
    pub fn replay(
        &self,
        disk: &dyn Disk,
        chain: &Chain,
        from: Lsn,
        visit: &mut dyn FnMut(Frame<'_>) -> Result<(), LogError>,
    ) -> Result<(), LogError> {
        chain.pieces.iter().try_for_each(|place| self.show(disk, &self.pieces[*place], from, visit))
    }

    /// Shows every readable frame past `after`, whatever is missing between them, in no particular order.
    ///
    /// # Errors
    /// As [`Survey::replay`].
    pub fn readable(
        &self,
        disk: &dyn Disk,
        after: Lsn,
        visit: &mut dyn FnMut(Frame<'_>) -> Result<(), LogError>,
    ) -> Result<(), LogError> {
        let mut seen = std::collections::HashSet::new();
        let mut once = |frame: Frame<'_>| if seen.insert(frame.lsn) { visit(frame) } else { Ok(()) };
        self.pieces.iter().try_for_each(|piece| self.show(disk, piece, after + 1, &mut once))
    }

    fn show(
        &self,
        disk: &dyn Disk,
        piece: &Piece,
        from: Lsn,
        visit: &mut dyn FnMut(Frame<'_>) -> Result<(), LogError>,
    ) -> Result<(), LogError> {
        if piece.last_lsn < from {
            return Ok(());
        }
        let path = &self.segments[piece.segment].path;
        let file = disk.open(path, OpenMode::Read).map_err(LogError::io("open", path))?;
        let mut at = piece.offset;
        let mut body = Vec::new();
        while at < piece.end {
            let (start, len) = match piece.batches {
                false => (at, piece.end - at),
                true => {
                    let mut header = [0; BATCH_HEADER_BYTES];
                    file.read_exact_at(at, &mut header).map_err(LogError::io("read", path))?;
                    let header = BatchHeader::parse(&header)
                        .ok_or_else(|| LogError::corrupt(path, at, "changed while it was read"))?;
                    (at + BATCH_HEADER_BYTES as u64, u64::from(header.body_len))
                }
            };
            body.resize(len as usize, 0);
            file.read_exact_at(start, &mut body).map_err(LogError::io("read", path))?;
            for frame in decode_frames(&body) {
                let frame = frame.map_err(|error| LogError::corrupt(path, start + error.offset as u64, error.why))?;
                if frame.lsn >= from {
                    visit(frame)?;
                }
            }
            at = start + len;
        }
        Ok(())
    }
}

impl Change {
    fn written(&self) -> Option<PathBuf> {
        match self {
            Change::Write { to, .. } => Some(to.clone()),
            Change::Aside { .. } => None,
        }
    }

    /// Makes the change durably. Returns the file that keeps what is cut, if this change cuts something.
    ///
    /// # Errors
    /// [`LogError::Io`]. Nothing is lost then: survey and plan anew.
    pub fn carry_out(&self, disk: &dyn Disk, dir: &Path) -> Result<Option<PathBuf>, LogError> {
        match self {
            Change::Aside { file } => {
                let aside = aside_path(disk, file)?;
                disk.rename(file, &aside).map_err(LogError::io("rename", file))?;
                disk.sync_dir(dir).map_err(LogError::io("sync", dir))?;
                Ok(Some(aside))
            }
            Change::Write { from, to, first_lsn, pieces, old } => {
                let source = disk.open(from, OpenMode::Read).map_err(LogError::io("open", from))?;
                let mut aside = None;
                if let Some(end) = *old {
                    let path = aside_path(disk, to)?;
                    let before = disk.open(to, OpenMode::Read).map_err(LogError::io("open", to))?;
                    write_durably(disk, dir, &path, |file, tmp| copy(&*before, to, file, tmp, 0, end, 0))?;
                    aside = Some(path);
                }
                write_durably(disk, dir, to, |file, tmp| write_pieces(&*source, from, file, tmp, *first_lsn, pieces))?;
                Ok(aside)
            }
        }
    }
}

/// A name beside the file that nothing has.
fn aside_path(disk: &dyn Disk, file: &Path) -> Result<PathBuf, LogError> {
    let dir = file.parent().unwrap_or(Path::new(""));
    let names = disk.list(dir).map_err(LogError::io("list", dir))?;
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let mut aside = format!("{name}{CUT_SUFFIX}");
    let mut number = 1;
    while names.contains(&aside) {
        number += 1;
        aside = format!("{name}{CUT_SUFFIX}.{number}");
    }
    Ok(dir.join(aside))
}

/// Fills a file under another name, syncs it, and gives it its own.
fn write_durably(
    disk: &dyn Disk,
    dir: &Path,
    path: &Path,
    fill: impl FnOnce(&dyn DiskFile, &Path) -> Result<(), LogError>,
) -> Result<(), LogError> {
    let mut tmp = path.as_os_str().to_owned();
    tmp.push(TMP_SUFFIX);
    let tmp = PathBuf::from(tmp);
    remove_if_there(disk, &tmp)?;
    let file = disk.open(&tmp, OpenMode::CreateNew).map_err(LogError::io("create", &tmp))?;
    fill(&*file, &tmp)?;
    file.sync_data().map_err(LogError::io("sync", &tmp))?;
    disk.rename(&tmp, path).map_err(LogError::io("rename", &tmp))?;
    disk.sync_dir(dir).map_err(LogError::io("sync", dir))
}

/// Copies bytes `at..end` to `put`.
fn copy(
    from: &dyn DiskFile,
    from_path: &Path,
    to: &dyn DiskFile,
    to_path: &Path,
    mut at: u64,
    end: u64,
    mut put: u64,
) -> Result<(), LogError> {
    const COPY_BYTES: u64 = 1024 * 1024;
    let mut chunk = Vec::new();
    while at < end {
        chunk.resize((end - at).min(COPY_BYTES) as usize, 0);
        from.read_exact_at(at, &mut chunk).map_err(LogError::io("read", from_path))?;
        to.write_all_at(put, &chunk).map_err(LogError::io("write", to_path))?;
        at += chunk.len() as u64;
        put += chunk.len() as u64;
    }
    Ok(())
}

fn write_pieces(
    from: &dyn DiskFile,
    from_path: &Path,
    to: &dyn DiskFile,
    to_path: &Path,
    first_lsn: Lsn,
    pieces: &[Piece],
) -> Result<(), LogError> {
    to.write_all_at(0, &encode_header(first_lsn)).map_err(LogError::io("write", to_path))?;
    let mut put = SEGMENT_HEADER_BYTES as u64;
    let mut batch = Vec::new();
    for piece in pieces {
        let len = piece.end - piece.offset;
        if piece.batches {
            copy(from, from_path, to, to_path, piece.offset, piece.end, put)?;
            put += len;
            continue;
        }
        let mut body = vec![0; len as usize];
        from.read_exact_at(piece.offset, &mut body).map_err(LogError::io("read", from_path))?;
        let frames = (piece.last_lsn - piece.first_lsn + 1) as u32;
        encode_batch(&mut batch, piece.first_lsn, frames, piece.first_epoch, piece.first_lsn - 1, &body);
        to.write_all_at(put, &batch).map_err(LogError::io("write", to_path))?;
        put += batch.len() as u64;
    }
    Ok(())
}

/// Reads one segment.
struct Reader<'a, 'j> {
    file: Arc<dyn DiskFile>,
    path: &'a Path,
    len: u64,
    segment: usize,
    first_lsn: Lsn,
    judge: &'a mut Judge<'j>,
    survey: &'a mut Survey,
}

impl Reader<'_, '_> {
    /// As an open of the log reads it; `None` if that refuses, or cuts what was synced.
    fn strictly(&mut self, last: bool, synced: Lsn) -> Result<Option<Surveyed>, LogError> {
        let mut epochs = None;
        let judge = &mut *self.judge;
        let mut visit = |frame: Frame<'_>| {
            epochs = Some((epochs.map_or(frame.epoch, |(first, _)| first), frame.epoch));
            judge(&frame).map_err(LogError::Visit)
        };
        let mut replay = Replay::new(self.first_lsn.saturating_sub(1), &mut visit);
        let segment = Segment { file: &*self.file, path: self.path, first_lsn: self.first_lsn, last };
        let Scanned { end, cut_bytes } = match segment.scan(&mut replay) {
            Ok(scanned) => scanned,
            Err(error @ (LogError::Io { .. } | LogError::OtherVersion(_))) => return Err(error),
            Err(_) => return Ok(None),
        };
        let next_lsn = replay.next_lsn();
        if cut_bytes > 0 && next_lsn <= synced {
            return Ok(None);
        }
        if let Some((first_epoch, last_epoch)) = epochs {
            self.survey.pieces.push(Piece {
                segment: self.segment,
                first_lsn: self.first_lsn,
                last_lsn: next_lsn - 1,
                first_epoch,
                last_epoch,
                offset: SEGMENT_HEADER_BYTES as u64,
                end,
                batches: true,
            });
        }
        let path = self.path.to_owned();
        Ok(Some(Surveyed { path, first_lsn: self.first_lsn, sound: true, content_end: end + cut_bytes }))
    }

    /// Whatever of it is sound.
    fn leniently(&mut self) -> Result<Surveyed, LogError> {
        let holes = self.survey.holes.len();
        let mut at = SEGMENT_HEADER_BYTES as u64;
        let mut least = self.first_lsn;
        let mut content_end = at.min(self.len);
        let mut body = Vec::new();
        while at < self.len {
            if let Some(header) = self.batch_at(at, least, &mut body)? {
                let end = at + header.batch_len();
                let last_lsn = header.first_lsn + Lsn::from(header.frames) - 1;
                self.add(header.first_lsn, last_lsn, header.epoch, at, end, true);
                (at, least, content_end) = (end, last_lsn + 1, end);
                continue;
            }
            let next = self.next_batch(at + 1, least)?;
            let Some(end) = self.content_end(at, next.map_or(self.len, |(next, _)| next))? else { break };
            let (limit, below) = next.unwrap_or((self.len, Lsn::MAX));
            let end = self.stray_frames(at, end, limit.min(end + 4_096), least..below)?;
            let why = match next {
                Some((next, lsn)) => format!("no valid batch up to byte {next}, where frame {lsn} begins"),
                None => "no valid batch follows".to_owned(),
            };
            self.survey.holes.push(Hole { file: self.path.to_owned(), offset: at, bytes: end - at, why });
            content_end = end;
            let Some((next, lsn)) = next else { break };
            (at, least) = (next, lsn);
        }
        if self.survey.holes.len() == holes {
            // Nothing is wrong behind it, so it is the header.
            let (file, bytes) = (self.path.to_owned(), (SEGMENT_HEADER_BYTES as u64).min(self.len));
            let why = "the segment's header is damaged".to_owned();
            self.survey.holes.push(Hole { file, offset: 0, bytes, why });
        }
        Ok(Surveyed { path: self.path.to_owned(), first_lsn: self.first_lsn, sound: false, content_end })
    }

    /// Joins what follows on the last piece to it.
    fn add(&mut self, first_lsn: Lsn, last_lsn: Lsn, epoch: u32, offset: u64, end: u64, batches: bool) {
        if let Some(piece) = self.survey.pieces.last_mut()
            && piece.segment == self.segment
            && piece.batches == batches
            && piece.last_lsn + 1 == first_lsn
            && piece.end == offset
            && (if batches { piece.last_epoch <= epoch } else { piece.last_epoch == epoch })
            && (batches || end - piece.offset <= BATCH_BODY_MAX as u64)
        {
            (piece.last_lsn, piece.last_epoch, piece.end) = (last_lsn, epoch, end);
            return;
        }
        let (segment, first_epoch, last_epoch) = (self.segment, epoch, epoch);
        self.survey.pieces.push(Piece { segment, first_lsn, last_lsn, first_epoch, last_epoch, offset, end, batches });
    }

    /// The batch at `at`, if every frame in it is sound and none comes before `least`.
    fn batch_at(&mut self, at: u64, least: Lsn, body: &mut Vec<u8>) -> Result<Option<BatchHeader>, LogError> {
        let mut bytes = [0; BATCH_HEADER_BYTES];
        if at + bytes.len() as u64 > self.len {
            return Ok(None);
        }
        self.read(at, &mut bytes)?;
        let Some(header) = BatchHeader::parse(&bytes) else { return Ok(None) };
        if header.first_lsn < least || at + header.batch_len() > self.len {
            return Ok(None);
        }
        body.resize(header.body_len as usize, 0);
        self.read(at + bytes.len() as u64, body)?;
        if !header.matches(body) {
            return Ok(None);
        }
        header.foreign(at)?;
        let mut expected = header.first_lsn;
        for frame in decode_frames(body) {
            match frame {
                Ok(frame) if frame.lsn == expected && frame.epoch == header.epoch && (self.judge)(&frame).is_ok() => {
                    expected += 1;
                }
                _ => return Ok(None),
            }
        }
        Ok((expected - header.first_lsn == Lsn::from(header.frames)).then_some(header))
    }

    /// Where the next whole batch from `from` on begins, and its first frame.
    fn next_batch(&mut self, from: u64, least: Lsn) -> Result<Option<(u64, Lsn)>, LogError> {
        const WINDOW_BYTES: u64 = 1024 * 1024;
        let (mut window, mut body) = (Vec::new(), Vec::new());
        let mut at = from;
        while at < self.len {
            // Windows overlap, so that no magic number hides between two of them.
            window.resize((self.len - at).min(WINDOW_BYTES + BATCH_MAGIC.len() as u64 - 1) as usize, 0);
            self.read(at, &mut window)?;
            let places = window.windows(BATCH_MAGIC.len()).enumerate().filter(|(_, bytes)| *bytes == BATCH_MAGIC);
            for found in places.map(|(place, _)| place as u64) {
                if let Some(header) = self.batch_at(at + found, least, &mut body)? {
                    return Ok(Some((at + found, header.first_lsn)));
                }
            }
            at += WINDOW_BYTES;
        }
        Ok(None)
    }

    /// Where the last byte that is not zero ends, if there is one.
    fn content_end(&self, from: u64, to: u64) -> Result<Option<u64>, LogError> {
        const WINDOW_BYTES: u64 = 1024 * 1024;
        let mut window = Vec::new();
        let (mut at, mut end) = (from, None);
        while at < to {
            window.resize((to - at).min(WINDOW_BYTES) as usize, 0);
            self.read(at, &mut window)?;
            end = last_nonzero(&window).map(|last| at + last as u64 + 1).or(end);
            at += window.len() as u64;
        }
        Ok(end)
    }

    /// Single frames in a stretch that is no batch; the last one may end with zeros. Gives where it ends, or `content`.
    fn stray_frames(&mut self, from: u64, mut content: u64, to: u64, mut lsns: Range<Lsn>) -> Result<u64, LogError> {
        let mut bytes = vec![0; (to - from) as usize];
        self.read(from, &mut bytes)?;
        let mut at = 0;
        while at + FRAME_HEADER_MIN_BYTES <= bytes.len() {
            // Most places are ruled out before a checksum is computed.
            let frame = match outline(&bytes[at..]) {
                Ok((frame, end)) if lsns.contains(&frame.lsn) => {
                    decode_frames(&bytes[at..at + end]).next().and_then(Result::ok).map(|frame| (frame, end))
                }
                _ => None,
            };
            match frame {
                Some((frame, end)) if (self.judge)(&frame).is_ok() => {
                    let (offset, epoch, lsn) = (from + at as u64, frame.epoch, frame.lsn);
                    self.add(lsn, lsn, epoch, offset, offset + end as u64, false);
                    lsns.start = lsn + 1;
                    at += end;
                    content = content.max(from + at as u64);
                }
                _ => at += 1,
            }
        }
        Ok(content)
    }

    fn read(&self, at: u64, buf: &mut [u8]) -> Result<(), LogError> {
        self.file.read_exact_at(at, buf).map_err(LogError::io("read", self.path))
    }
}
