//! A writer in this process that readers can register with: they hear of commits over HTTP.

use std::path::Path;
use std::thread::JoinHandle;

use syncline::api::Server;
use syncline::engine::{Database, DatabaseOptions};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use crate::{Result, workload};

/// The writer's database, and the thread that serves it.
pub struct Served {
    /// The database, with the table.
    pub db: Database,
    end: oneshot::Sender<()>,
    thread: JoinHandle<Result<()>>,
}

impl Served {
    /// Opens a writer on `dir` and serves it on a free port.
    pub fn start(dir: &Path) -> Result<Self> {
        let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
        listener.set_nonblocking(true)?;
        let mut options = DatabaseOptions::writer(dir.join("main.db"));
        options.advertise = format!("http://{}", listener.local_addr()?);
        let db = Database::open(options.clone())?;
        workload::execute(&db, workload::CREATE)?;
        let server = Server::new("a", options.advertise).database(db.clone())?;
        let (end, ended) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                let listener = TcpListener::from_std(listener)?;
                let shutdown = async {
                    let _ = ended.await;
                };
                Ok(server.serve(listener, None, shutdown).await?)
            })
        });
        Ok(Served { db, end, thread })
    }

    /// Stops serving and closes the database.
    pub fn close(self) -> Result<()> {
        let _ = self.end.send(());
        self.thread.join().map_err(|_| "the server panicked")??;
        self.db.close();
        Ok(())
    }
}
