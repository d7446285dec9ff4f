//! A shared service on tokio's work-stealing runtime: axum, and a deadpool of tokio-postgres connections that all
//! tenants share. Arguments, paths and modes as in `clients/service_common.py` and `clients/sql_work.py`.

use std::collections::HashMap;
use std::fs::File;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{self, Poll};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use deadpool::managed::{Manager, Metrics, Object, Pool, RecycleError, RecycleResult};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_postgres::tls::{ChannelBinding, TlsConnect, TlsStream};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Config, NoTls};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Unbound,
    SessionSet,
    PerTransaction,
}

/// What the service knows of its own work: a line per data statement, with its socket and the tenant it was for.
struct Truth {
    file: File,
    ordinals: HashMap<u16, u64>,
}

impl Truth {
    /// Called right before a statement is sent.
    fn works(&mut self, port: u16, tenant: &str) -> Result<()> {
        let ordinal = self.ordinals.entry(port).or_insert(0);
        let at = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs_f64();
        let line = json!({ "port": port, "ordinal": *ordinal, "tenant": tenant, "at": at });
        *ordinal += 1;
        self.file.write_all(format!("{line}\n").as_bytes())?;
        Ok(())
    }
}

/// A database connection and its local port.
struct Connected {
    client: Client,
    port: u16,
}

struct Database {
    upstream: SocketAddr,
    config: Config,
    /// Where it is spoken to in TLS.
    tls: Option<Rustls>,
}

/// rustls, as a connection to the database is sealed by it.
#[derive(Clone)]
struct Rustls(TlsConnector);

impl Rustls {
    /// Believes the lab's certificate, if the environment names one.
    fn from_environment() -> Result<Option<Self>> {
        let Some(file) = std::env::var_os("LAB_CERTIFICATE") else { return Ok(None) };
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(file)?)?;
        let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        Ok(Some(Self(TlsConnector::from(Arc::new(config)))))
    }
}

impl TlsConnect<TcpStream> for Rustls {
    type Stream = Sealed;
    type Error = std::io::Error;
    type Future = Pin<Box<dyn Future<Output = std::io::Result<Sealed>> + Send>>;

    fn connect(self, stream: TcpStream) -> Self::Future {
        let name = ServerName::IpAddress(IpAddr::from(Ipv4Addr::LOCALHOST).into());
        Box::pin(async move { self.0.connect(name, stream).await.map(Sealed) })
    }
}

/// A connection that rustls has sealed.
struct Sealed(tokio_rustls::client::TlsStream<TcpStream>);

impl TlsStream for Sealed {
    fn channel_binding(&self) -> ChannelBinding {
        ChannelBinding::none()
    }
}

impl AsyncRead for Sealed {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut task::Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Sealed {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>, buf: &[u8]) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

impl Manager for Database {
    type Type = Connected;
    type Error = anyhow::Error;

    async fn create(&self) -> Result<Connected> {
        let stream = TcpStream::connect(self.upstream).await?;
        stream.set_nodelay(true)?;
        let port = stream.local_addr()?.port();
        let client = match self.tls.clone() {
            Some(tls) => {
                let (client, connection) = self.config.connect_raw(stream, tls).await?;
                tokio::spawn(connection);
                client
            }
            None => {
                let (client, connection) = self.config.connect_raw(stream, NoTls).await?;
                tokio::spawn(connection);
                client
            }
        };
        Ok(Connected { client, port })
    }

    async fn recycle(&self, connected: &mut Connected, _: &Metrics) -> RecycleResult<anyhow::Error> {
        if connected.client.is_closed() { Err(RecycleError::message("closed")) } else { Ok(()) }
    }
}

struct Service {
    mode: Mode,
    comment: bool,
    tokens: HashMap<String, String>,
    truth: Mutex<Truth>,
    pool: Pool<Database>,
}

impl Service {
    async fn answer(&self, request: &Parts) -> Result<(StatusCode, Value)> {
        let header = |name: &str| request.headers.get(name).and_then(|v| v.to_str().ok());
        let token = header("authorization").unwrap_or_default().trim_start_matches("Bearer ");
        let Some(tenant) = self.tokens.get(token) else {
            return Ok((StatusCode::UNAUTHORIZED, json!({ "error": "no such token" })));
        };
        let mut parts = request.uri.path().split('/').skip(1);
        let (kind, reference) = (parts.next().unwrap_or_default(), parts.next());
        let comment = match header("traceparent") {
            Some(context) if self.comment => format!(" /*traceparent='{context}'*/"),
            _ => String::new(),
        };
        let connection: Object<Database> =
            self.pool.get().await.map_err(|error| anyhow::anyhow!("no connection: {error}"))?;
        let rows = self.work(&connection, tenant, kind, reference, &comment).await?;
        Ok((StatusCode::OK, json!({ "rows": rows, "ref": reference })))
    }

    async fn work(
        &self,
        connection: &Connected,
        tenant: &str,
        kind: &str,
        reference: Option<&str>,
        comment: &str,
    ) -> Result<Vec<Value>> {
        let client = &connection.client;
        let table = if self.mode == Mode::Unbound { "stock" } else { "orders" };
        if self.mode == Mode::PerTransaction {
            client.batch_execute("BEGIN").await?;
            client.query("SELECT set_config('app.tenant_id', $1, true)", &[&tenant]).await?;
        } else if self.mode == Mode::SessionSet && kind != "peek" {
            client.query("SELECT set_config('app.tenant_id', $1, false)", &[&tenant]).await?;
        }
        let select =
            |condition: &str| format!("SELECT tenant, item FROM {table}{condition} ORDER BY id LIMIT 3{comment}");
        let mut rows = Vec::new();
        match reference {
            None => rows.extend(self.data(connection, tenant, &select(""), &[]).await?),
            Some(reference) => {
                rows.extend(self.data(connection, tenant, &select(" WHERE item <> $1"), &[&reference]).await?);
                let insert = format!("INSERT INTO visits (ref) VALUES ($1){comment}");
                self.data(connection, tenant, &insert, &[&reference]).await?;
            }
        }
        if self.mode == Mode::PerTransaction {
            client.batch_execute("COMMIT").await?;
        }
        Ok(rows)
    }

    /// One data statement: parsed once, then executed.
    async fn data(
        &self,
        connection: &Connected,
        tenant: &str,
        sql: &str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Value>> {
        let statement = connection.client.prepare(sql).await?;
        self.truth.lock().unwrap_or_else(PoisonError::into_inner).works(connection.port, tenant)?;
        let rows = connection.client.query(&statement, parameters).await?;
        rows.iter()
            .filter(|row| !row.is_empty())
            .map(|row| Ok(json!({ "tenant": row.try_get::<_, String>(0)?, "item": row.try_get::<_, String>(1)? })))
            .collect()
    }
}

async fn handle(State(service): State<Arc<Service>>, request: Request) -> Response {
    let (status, body) = service
        .answer(&request.into_parts().0)
        .await
        .unwrap_or_else(|error| (StatusCode::INTERNAL_SERVER_ERROR, json!({ "error": format!("{error:#}") })));
    (status, Json(body)).into_response()
}

/// The arguments: `--NAME VALUE`, and `--comment`.
fn arguments() -> Result<HashMap<String, String>> {
    let mut found = HashMap::new();
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let name = arg.strip_prefix("--").with_context(|| format!("odd argument {arg}"))?.to_owned();
        let value = if name == "comment" { String::new() } else { args.next().context("a value is missing")? };
        found.insert(name, value);
    }
    Ok(found)
}

#[tokio::main(flavor = "multi_thread", worker_threads = 4)]
async fn main() -> Result<()> {
    let options = arguments()?;
    let option = |name: &str| options.get(name).with_context(|| format!("--{name} is missing"));
    let mode = match option("mode")?.as_str() {
        "unbound" => Mode::Unbound,
        "session-set" => Mode::SessionSet,
        "per-transaction" => Mode::PerTransaction,
        other => bail!("no mode {other}"),
    };
    let upstream = SocketAddr::from((Ipv4Addr::LOCALHOST, option("upstream")?.parse()?));
    let database =
        Database { upstream, config: Config::from_str("user=app dbname=shop")?, tls: Rustls::from_environment()? };
    let pool = Pool::builder(database)
        .max_size(option("pool")?.parse()?)
        .wait_timeout(Some(Duration::from_secs(60)))
        .runtime(deadpool::Runtime::Tokio1)
        .build()?;
    let file = File::options().append(true).create(true).open(option("truth")?)?;
    let service = Service {
        mode,
        comment: options.contains_key("comment"),
        tokens: serde_json::from_str(option("tokens")?)?,
        truth: Mutex::new(Truth { file, ordinals: HashMap::new() }),
        pool,
    };
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    println!("PORT {}", listener.local_addr()?.port());
    axum::serve(listener, Router::new().fallback(handle).with_state(Arc::new(service))).await?;
    Ok(())
}
