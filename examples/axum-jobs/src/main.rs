//! Orders in SQLite. The receipt of an order is a job in the background, and a process that ends
//! leaves none of them half done: first the requests are answered, then the jobs that these have
//! started are finished, and then the database is closed.
//!
//! ```text
//! cargo run -p axum-jobs -- 127.0.0.1:3000 orders.db
//! curl --data tea http://127.0.0.1:3000/orders
//! curl http://127.0.0.1:3000/orders
//! ```

use std::{env, error::Error, io, time::Duration};

use axum::{
    Router,
    extract::State,
    http::StatusCode,
    routing::{get, post},
};
use handover::Graceful;
use sqlx::{
    Row, SqlitePool,
    sqlite::{SqliteConnectOptions, SqliteJournalMode},
};
use tokio::time::sleep;

#[derive(Clone)]
struct Shop {
    pool: SqlitePool,
    jobs: Graceful,
    number: u64,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut args = env::args().skip(1);
    let address = args.next().unwrap_or("127.0.0.1:3000".into());
    let file = args.next().unwrap_or("orders.db".into());

    handover::run_generation(address, async |listener, generation| {
        // ANCHOR: stages
        // The token itself is the requests'. A stage drains after those that were asked for before it.
        let graceful = generation.graceful();
        let jobs = graceful.stage("jobs");
        let database = graceful.stage("database");

        // Before this process is ready: a file that cannot be opened is the end of this release, and
        // not of the service.
        let pool = open(&file).await.map_err(io::Error::other)?;
        tokio::spawn(database.track("the database", close(pool.clone(), database.clone())));
        // ANCHOR_END: stages

        let number = generation.number();
        let app = Router::new()
            .route("/orders", post(order).get(orders))
            .route("/generation", get(async move || number.to_string()))
            .with_state(Shop { pool, jobs, number });
        Ok(handover_axum::serve(listener, app).with_graceful(graceful))
    })
    .await?;
    Ok(())
}

// ANCHOR: job
async fn order(State(shop): State<Shop>, item: String) -> Result<String, StatusCode> {
    let insert = sqlx::query("INSERT INTO orders (item) VALUES (?)").bind(item);
    let id = insert.execute(&shop.pool).await.map_err(failed)?;
    let id = id.last_insert_rowid();
    let job = receipt(shop.pool, id, shop.number);
    // From this call on the job holds its stage open, whenever the task comes to run.
    tokio::spawn(shop.jobs.track(format!("receipt {id}"), job));
    Ok(id.to_string())
}
// ANCHOR_END: job

/// Has to do with a printer, and takes its time.
async fn receipt(pool: SqlitePool, id: i64, generation: u64) {
    sleep(Duration::from_millis(700)).await;
    let update = sqlx::query("UPDATE orders SET receipt = ? WHERE id = ?")
        .bind(format!("by generation {generation}"))
        .bind(id);
    match update.execute(&pool).await {
        Ok(_) => tracing::info!(id, "a receipt is written"),
        Err(err) => tracing::error!(id, %err, "a receipt is not written"),
    }
}

/// A line for each order.
async fn orders(State(shop): State<Shop>) -> Result<String, StatusCode> {
    let rows = sqlx::query("SELECT item, receipt FROM orders ORDER BY id");
    let rows = rows.fetch_all(&shop.pool).await.map_err(failed)?;
    let line = |row: &sqlx::sqlite::SqliteRow| {
        let (item, receipt): (String, Option<String>) =
            (row.try_get("item")?, row.try_get("receipt")?);
        Ok(format!(
            "{item}: {}\n",
            receipt.as_deref().unwrap_or("no receipt")
        ))
    };
    rows.iter()
        .map(line)
        .collect::<Result<_, _>>()
        .map_err(failed)
}

fn failed(err: sqlx::Error) -> StatusCode {
    tracing::error!(%err, "the database does not do as it is told");
    StatusCode::INTERNAL_SERVER_ERROR
}

// ANCHOR: database
/// Both generations of an upgrade have the file open: SQLite locks it for each write.
async fn open(file: &str) -> Result<SqlitePool, sqlx::Error> {
    let options = SqliteConnectOptions::new()
        .filename(file)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .busy_timeout(Duration::from_secs(10));
    let pool = SqlitePool::connect_with(options).await?;
    let table =
        "CREATE TABLE IF NOT EXISTS orders (id INTEGER PRIMARY KEY, item TEXT, receipt TEXT)";
    sqlx::query(table).execute(&pool).await?;
    Ok(pool)
}

/// Closes the database when nobody needs it any more: the last process to do so leaves one file.
async fn close(pool: SqlitePool, database: Graceful) {
    database.draining().await;
    pool.close().await;
    tracing::info!("the database is closed");
}
// ANCHOR_END: database
