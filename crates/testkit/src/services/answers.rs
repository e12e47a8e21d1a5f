//! Whether a server answers, asked in its own protocol with as little of it as will do.
//!
//! A port that accepts is not enough: each of the three accepts before it serves.

use std::{fmt::Display, future::Future, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

/// For one try; whoever waits asks again.
const TRY_MAX: Duration = Duration::from_secs(2);

/// A server that answers runs `select 1`, or wants a password first.
pub(super) async fn postgres(port: u16) -> Result<(), String> {
    within(async {
        let mut stream = connect(port).await?;
        let mut startup = 196_608_i32.to_be_bytes().to_vec();
        startup.extend(b"user\0crossdock\0database\0postgres\0\0");
        write(&mut stream, &[&length_of(&startup, 4), &startup[..]].concat()).await?;
        loop {
            let kind = stream.read_u8().await.map_err(text)?;
            let length = stream.read_u32().await.map_err(text)?;
            let body = read(&mut stream, length.saturating_sub(4)).await?;
            match kind {
                b'E' => return Err(String::from_utf8_lossy(&body).replace('\0', " ")),
                b'R' if body != [0; 4] => return Ok(()),
                b'Z' => write(&mut stream, b"Q\0\0\0\x0dselect 1\0").await?,
                b'D' => return write(&mut stream, b"X\0\0\0\x04").await,
                _ => {}
            }
        }
    })
    .await
}

/// A server that answers names a broker: one that starts has none that may be used.
pub(super) async fn kafka(port: u16) -> Result<(), String> {
    // Metadata (3), version 4, correlation 1, no client id; no topics, none to be created.
    const REQUEST: &[u8] = b"\0\0\0\x0f\0\x03\0\x04\0\0\0\x01\xff\xff\0\0\0\0\0";
    within(async {
        let mut stream = connect(port).await?;
        write(&mut stream, REQUEST).await?;
        let length = stream.read_u32().await.map_err(text)?;
        let body = read(&mut stream, length).await?;
        // Behind the correlation and the time for which it throttles stands how many brokers follow.
        match body.get(8..12) {
            Some([0, 0, 0, 0]) | None => Err("it knows no broker yet".to_owned()),
            Some(_) => Ok(()),
        }
    })
    .await
}

/// A server that answers lets the user in and opens the virtual host `/`.
pub(super) async fn amqp(port: u16) -> Result<(), String> {
    within(async {
        let mut stream = connect(port).await?;
        write(&mut stream, b"AMQP\0\0\x09\x01").await?;
        expect(&mut stream, (10, 10)).await?;
        send(&mut stream, (10, 11), b"\0\0\0\0\x05PLAIN\0\0\0\x14\0crossdock\0crossdock\x05en_US").await?;
        let tune = expect(&mut stream, (10, 30)).await?;
        let tune = tune.get(..8).ok_or("a tune that is too short")?;
        send(&mut stream, (10, 31), tune).await?;
        send(&mut stream, (10, 40), b"\x01/\0\0").await?;
        expect(&mut stream, (10, 41)).await?;
        send(&mut stream, (10, 50), b"\0\xc8\0\0\0\0\0").await?;
        expect(&mut stream, (10, 51)).await.map(drop)
    })
    .await
}

/// Sends one method of AMQP on channel 0.
async fn send(stream: &mut TcpStream, method: (u16, u16), arguments: &[u8]) -> Result<(), String> {
    let payload = [&method.0.to_be_bytes(), &method.1.to_be_bytes(), arguments].concat();
    write(stream, &[b"\x01\0\0", &length_of(&payload, 0)[..], &payload, b"\xce"].concat()).await
}

/// Reads one method of AMQP and gives its arguments.
async fn expect(stream: &mut TcpStream, method: (u16, u16)) -> Result<Vec<u8>, String> {
    let head = read(stream, 3).await?;
    let length = stream.read_u32().await.map_err(text)?;
    let payload = read(stream, length.saturating_add(1)).await?;
    let wanted = [method.0.to_be_bytes(), method.1.to_be_bytes()].concat();
    match payload.strip_prefix(&wanted[..]) {
        Some(arguments) if head[0] == 1 => Ok(arguments.to_vec()),
        _ => Err(format!("not method {method:?}: {}", String::from_utf8_lossy(&payload))),
    }
}

/// The length of a message in four bytes, `more` added.
fn length_of(message: &[u8], more: u32) -> [u8; 4] {
    u32::try_from(message.len()).map_or(u32::MAX, |length| length + more).to_be_bytes()
}

async fn connect(port: u16) -> Result<TcpStream, String> {
    TcpStream::connect(("127.0.0.1", port)).await.map_err(text)
}

async fn write(stream: &mut TcpStream, bytes: &[u8]) -> Result<(), String> {
    stream.write_all(bytes).await.map_err(text)
}

/// Nothing that is asked for here takes more than a few kilobytes.
async fn read(stream: &mut TcpStream, length: u32) -> Result<Vec<u8>, String> {
    if length > 1 << 20 {
        return Err(format!("a message of {length} bytes"));
    }
    let mut bytes = vec![0; length as usize];
    stream.read_exact(&mut bytes).await.map_err(text)?;
    Ok(bytes)
}

async fn within(ask: impl Future<Output = Result<(), String>>) -> Result<(), String> {
    timeout(TRY_MAX, ask).await.unwrap_or_else(|_| Err("no answer in time".to_owned()))
}

fn text(error: impl Display) -> String {
    error.to_string()
}
