//! What pictures and documents of books cost in memory.

use std::path::Path;
use std::time::Duration;

use bookstore::{Durability, Engine, NewBook};

use crate::flags::Flags;
use crate::{Failure, machine, shop};

/// Opens the directory in a process of its own and prints what is resident.
pub(crate) const CHILD: &str = "pictures-child";

const SETTLE: Duration = Duration::from_secs(3);

pub(crate) async fn run(mut flags: Flags) -> Result<(), Failure> {
    let books: usize = flags.number("books", 2_000)?;
    let bytes: usize = flags.number("bytes", 200_000)?;
    let dir = shop::WorkDir::new(&mut flags)?;
    flags.finish()?;
    if books == 0 {
        return Err("--books must be 1 or more".into());
    }
    machine::print(dir.path())?;
    let mut resident = Vec::new();
    for (name, bytes) in [("without", 0), ("with", bytes)] {
        let data = dir.path().join(name);
        build(&data, books, bytes).await?;
        resident.push(measure(&data, books)?);
    }
    let [without, with] = &resident[..] else { return Err("two were measured".into()) };
    println!(
        "pictures: {books} books with {bytes} bytes of pictures each: {} MB resident after an open, {} MB without pictures; \
         after each book was read once: {} MB, {} MB",
        with.0 / 1_000_000,
        without.0 / 1_000_000,
        with.1 / 1_000_000,
        without.1 / 1_000_000,
    );
    Ok(())
}

async fn build(data: &Path, books: usize, bytes: usize) -> Result<(), Failure> {
    let engine = Engine::open(shop::quiet_config(data, Durability::Sync)).await?;
    engine.register_hashed("seller", &shop::cheap_hash()?).await?;
    engine.create_store("seller", shop::TRUSTED, "store").await?;
    for number in 0..books {
        // Base64 letters that differ for each book.
        let letter = |at: usize| (b'a' + ((at * 7 + number * 13 + at / 26 * (number + 1)) % 26) as u8) as char;
        let picture: String = (0..bytes).map(letter).collect();
        let id = format!("book-{number}");
        let document = format!(
            r#"{{"id":"{id}","title":"书 {number}","price":100,"content":"目录 {number}","pictures":["{picture}"]}}"#
        );
        let book = NewBook { id: &id, price: 100, document: &document };
        engine.add_book("seller", shop::TRUSTED, "store", book, 10).await?;
    }
    println!("  built {books} books of {bytes} bytes: {} MB at most", machine::memory("VmHWM")? / 1_000_000);
    engine.close().await?;
    Ok(())
}

/// Resident bytes after the open, and after every book was read.
fn measure(data: &Path, books: usize) -> Result<(u64, u64), Failure> {
    let flags = [("data", data.display().to_string()), ("books", books.to_string())];
    let output = shop::child(CHILD, &flags)?.wait_with_output()?;
    let text = String::from_utf8(output.stdout)?;
    let numbers: Vec<u64> = text.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
    match numbers[..] {
        [rss, read] if output.status.success() => Ok((rss, read)),
        _ => Err(format!("the child printed {text:?} and ended with {}", output.status).into()),
    }
}

pub(crate) async fn child(mut flags: Flags) -> Result<(), Failure> {
    let data = flags.text("data").ok_or("--data is missing")?;
    let books: usize = flags.number("books", 0)?;
    flags.finish()?;
    let engine = Engine::open(shop::quiet_config(Path::new(&data), Durability::Sync)).await?;
    tokio::time::sleep(SETTLE).await;
    let rss = machine::memory("VmRSS")?;
    for number in 0..books {
        engine.book("store", &format!("book-{number}")).await?;
    }
    tokio::time::sleep(SETTLE).await;
    println!("{rss} {}", machine::memory("VmRSS")?);
    Ok(())
}
