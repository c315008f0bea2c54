//! The `bookstore` program. All of it is in the library; see [`bookstore::cli`].

/// Actors box every message, which this allocator does faster than the system's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    bookstore::cli::main()
}
