//! TLS and logins by certificate, on a real server whose certificate an authority of the test has signed.

use std::fs;

use crossdock_core::Severity;
use crossdock_postgres::{Postgres, PostgresOptions};
use crossdock_testkit::services::private::{self, Authority, Signed};
use sqlx::{AssertSqlSafe, Executor, Row};
use tempfile::TempDir;

use crate::database::Database;

/// A server that takes nobody without TLS; `hub` comes in by a certificate alone.
struct Secured {
    server: private::Postgres,
    database: Database,
    authority: Authority,
    folder: TempDir,
}

impl Secured {
    async fn start(certificate: impl Fn(&Authority) -> Signed) -> Self {
        let authority = Authority::new("crossdock tests");
        let Signed { certificate, key } = certificate(&authority);
        let server = private::Postgres::options()
            .file("server.crt", certificate)
            .file("server.key", key)
            .file("authority.crt", authority.pem.as_str())
            .setting("ssl=on")
            .setting("ssl_ca_file=authority.crt")
            .access("hostssl all hub 127.0.0.1/32 cert")
            .start()
            .await;
        let database = Database::create_on(&server.url()).await;
        Self { server, database, authority, folder: tempfile::tempdir().unwrap() }
    }

    fn file(&self, name: &str, text: &str) -> String {
        let path = self.folder.path().join(name);
        fs::write(&path, text).unwrap();
        path.display().to_string()
    }

    fn options(&self, user: &str, pairs: &[(&str, &str)]) -> PostgresOptions {
        let url = self.database.url().replace("crossdock@", &format!("{user}@"));
        PostgresOptions::parse(&url, pairs.iter().copied()).unwrap()
    }

    /// Why the server is refused, with what to do, by `open` and by `check --online` alike.
    async fn refusal(&self, user: &str, pairs: &[(&str, &str)]) -> String {
        let options = self.options(user, pairs);
        let findings = Postgres::findings(&options).await;
        let [finding] = &findings[..] else { panic!("one thing is wrong: {findings:?}") };
        assert_eq!(finding.severity, Severity::Error);
        let error = Postgres::open(options).await.err().expect("it is not let in");
        assert!(error.is_final(), "waiting does not help: {error}");
        let remedy = finding.remedy.as_deref().expect("a remedy");
        assert!(error.to_string().contains(remedy), "{error}");
        format!("{} → {remedy}", finding.detail)
    }
}

/// How the connection of the hub looks to the server: its user, and the version of TLS.
async fn connected(options: PostgresOptions) -> (String, Option<String>) {
    let postgres = Postgres::open(options).await.unwrap();
    postgres.migrate().await.unwrap();
    let seen = "SELECT current_user::text, version FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    let row = postgres.pool(crossdock_postgres::Purpose::Admin).fetch_one(seen).await.unwrap();
    postgres.close().await;
    (row.get(0), row.get(1))
}

#[tokio::test]
async fn tls_with_an_authority_of_our_own_and_a_login_by_certificate() {
    let secured = Secured::start(|authority| authority.sign("server")).await;
    let ca = secured.authority.pem.as_str();
    let with_tls = |user: &str| (user.to_owned(), Some("TLSv1.3".to_owned()));

    // From text, and from a file with the mode by its name; without a mode an authority is asked.
    let file = secured.file("ca.pem", ca);
    for pairs in [
        &[("tls.ca", ca)][..],
        &[("tls.ca", &file), ("sslmode", "verify-full")],
        &[("tls.ca", &file), ("sslmode", "verify-ca")],
        &[("sslmode", "require")],
    ] {
        assert_eq!(connected(secured.options("crossdock", pairs)).await, with_tls("crossdock"));
    }
    let findings = Postgres::findings(&secured.options("crossdock", &[("tls.ca", ca)])).await;
    assert!(findings.iter().all(|finding| finding.severity == Severity::Ok), "{findings:?}");

    // By the certificate alone, from files, as one does.
    let make =
        format!("CREATE ROLE hub LOGIN SUPERUSER; ALTER DATABASE {} OWNER TO hub", secured.database.quoted());
    secured.database.connect().await.execute(AssertSqlSafe(make)).await.unwrap();
    let ours = secured.authority.sign("hub");
    let (certificate, key) = (secured.file("hub.pem", &ours.certificate), secured.file("hub.key", &ours.key));
    let pairs = [("tls.ca", file.as_str()), ("tls.certificate", &certificate), ("tls.key", &key)];
    assert_eq!(connected(secured.options("hub", &pairs)).await, with_tls("hub"));
    let nobody = secured.authority.sign("nobody");
    let pairs = [("tls.ca", ca), ("tls.certificate", &nobody.certificate), ("tls.key", &nobody.key)];
    let stranger = secured.refusal("hub", &pairs).await;
    assert!(stranger.contains("certificate authentication failed"), "{stranger}");
    drop(secured.server);
}

#[tokio::test]
async fn a_certificate_that_is_not_believed_is_refused_with_what_to_do() {
    let secured = Secured::start(|authority| authority.sign_for("server", "db.example")).await;
    let ca = secured.authority.pem.as_str();
    let other = Authority::new("somebody else");
    let unsigned = secured.refusal("crossdock", &[("tls.ca", &other.pem)]).await;
    assert!(unsigned.contains("UnknownIssuer") && unsigned.contains("`tls.ca`"), "{unsigned}");
    let elsewhere = secured.refusal("crossdock", &[("tls.ca", ca)]).await;
    assert!(
        elsewhere.contains("db.example") && elsewhere.contains("the host that `store` names"),
        "{elsewhere}"
    );
    // Whoever does not ask for the host is let in.
    connected(secured.options("crossdock", &[("tls.ca", ca), ("sslmode", "verify-ca")])).await;
    let missing = secured.refusal("crossdock", &[("tls.ca", "/nowhere/ca.pem")]).await;
    assert!(missing.contains("the file of `tls.ca`, /nowhere/ca.pem, cannot be read"), "{missing}");
    let stranger = other.sign("hub");
    let pairs = [
        ("sslmode", "require"),
        ("tls.certificate", stranger.certificate.as_str()),
        ("tls.key", stranger.key.as_str()),
    ];
    let unknown = secured.refusal("hub", &pairs).await;
    assert!(unknown.contains("UnknownCA") && unknown.contains("`tls.certificate`"), "{unknown}");
}

#[tokio::test]
async fn a_server_without_tls_is_refused_where_tls_is_wanted() {
    let database = Database::create().await;
    for mode in ["require", "verify-full"] {
        let options = PostgresOptions::parse(&database.url(), [("sslmode", mode)]).unwrap();
        let error = Postgres::open(options).await.err().expect("it has no TLS");
        assert!(error.is_final() && error.to_string().contains("does not support TLS"), "{error}");
    }
}
