//! The contenders that speak HTTP, under the same load.

use std::sync::Arc;

use tokio::process::Command;

use super::CompareArgs;
use super::contender::{Contender, Installed};
use super::postgres::Cluster;
use super::process::meter;
use super::table::Sample;
use crate::Failure;
use crate::args::{Load, Pace, Scenario};
use crate::calls::Route;
use crate::drive::drive;
use crate::run::conclude;
use crate::scenario::Plan;
use crate::server::{Journal, Server, ServerArgs, TemporaryDirectory};

/// Starts the contender, measures the scenarios on it, stops it.
pub(super) async fn measure(
    args: &CompareArgs,
    installed: &Installed,
    round: u32,
    contender: Contender,
) -> Result<Vec<Sample>, Failure> {
    let data = TemporaryDirectory::new(&args.temp_dir)?;
    // Declared before the server, so that it ends after it, however that comes about.
    let mut cluster = None;
    let server = match (contender, contender.durability(), &installed.postgres, &installed.axum) {
        (_, Some(durability), ..) => {
            let server = ServerArgs { program: args.program.clone(), durability };
            Server::start_real(&server, data.path(), &[], args.start_timeout).await?
        }
        (Contender::Axum, _, Some(postgres), Some(axum)) => {
            let cluster = cluster.insert(Cluster::start(postgres, &args.temp_dir, args.start_timeout).await?);
            let mut command = Command::new(axum);
            command.arg(cluster.address()).arg(args.axum_pool.to_string());
            Server::start(command, tokio::time::Instant::now() + args.start_timeout).await?
        }
        _ => Server::start_bare(args.start_timeout).await?,
    };
    let roots: Vec<u32> = [server.pid].into_iter().chain(cluster.as_ref().map(Cluster::pid)).collect();
    let load = Load { keys: contender == Contender::Keyed, ..args.load.clone() };
    let mut samples = Vec::new();
    for scenario in &args.scenario {
        let sample = measure_scenario(args, &load, (round, contender, *scenario), &server, &roots).await?;
        samples.push(sample);
    }
    server.stop().await?;
    Ok(samples)
}

async fn measure_scenario(
    args: &CompareArgs,
    load: &Load,
    (round, contender, scenario): (u32, Contender, Scenario),
    server: &Server,
    roots: &[u32],
) -> Result<Sample, Failure> {
    let pace = Pace { connections: args.connections, duration: args.duration };
    let plan = Arc::new(Plan::set_up(server.target.clone(), load).await?);
    // After the set-up, whose lonely requests would make the average batch look small.
    let before = Journal::scrape(&server.target).await;
    let cores = meter(roots.to_vec(), load.warmup, load.warmup + args.duration);
    let measured = drive(&plan, load, pace, scenario, None).await?;
    let after = Journal::scrape(&server.target).await;
    // What keeps nothing would fail.
    let mut report = conclude(&plan, pace, scenario, &measured, contender != Contender::Bare).await?;
    let cpu_us = |per_second: f64| move |cores: f64| cores * 1e6 / per_second;
    let cores = cores.await.ok().flatten().filter(|_| report.operations > 0);
    report.server_cpu_us_per_request = cores.map(cpu_us(report.requests_per_second));
    let journal = before.zip(after);
    Ok(Sample {
        round,
        contender,
        scenario,
        clients: args.connections,
        operations_per_second: report.operations_per_second,
        requests_per_second: report.requests_per_second,
        cpu_us_per_request: report.server_cpu_us_per_request,
        cpu_us_per_operation: cores.map(cpu_us(report.operations_per_second)),
        p99_us: report.routes.get(&Route::NewOrder).map(|latency| latency.p99_us),
        payment_p99_us: report.routes.get(&Route::Payment).map(|latency| latency.p99_us),
        journal_frames_per_batch: journal.and_then(|(before, after)| after.frames_per_batch_since(before)),
        journal_sync_us: journal.and_then(|(before, after)| after.sync_us_since(before)),
        wrong: report.audit.as_ref().map_or_else(Vec::new, |audit| audit.listed.clone()),
        report: Some(report),
    })
}
