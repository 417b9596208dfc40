//! A gateway over a store on memory, for trying clients against it: `memory [address]`.
//!
//! Everything is lost when it ends. The users root, main and alt have fixed keys, printed at the start.

use ashlar_objects::testing::{TestStore, request_of};
use ashlar_objects::users::SecretKey;
use ashlar_s3_gateway::{Gateway, GatewayConfig};
use tokio_util::sync::CancellationToken;

#[tokio::main]
async fn main() {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:9000".to_owned());
    let filter = std::env::var("RUST_LOG").unwrap_or_else(|_| "warn".to_owned());
    tracing_subscriber::fmt()
        .with_env_filter(format!("{filter},{}", ashlar_s3_gateway::LOG_DIRECTIVE))
        .init();
    let world = TestStore::new().await;
    let users = world.store.users();
    let root = request_of("root", true);
    let secret = |name: &str| SecretKey::new(format!("{name}-secret-{name}-secret-{name}"));
    users.bootstrap_root(Some(("ROOTROOTROOTROOTROOT".to_owned(), secret("root")))).await.expect("root");
    println!("root ROOTROOTROOTROOTROOT root-secret-root-secret-root");
    for name in ["main", "alt"] {
        let facts = users.add_user(&root, name).await.expect("a user");
        let access_key = name.to_uppercase().repeat(8).chars().take(20).collect::<String>();
        users.import_key(&root, name, &access_key, &secret(name)).await.expect("a key");
        println!("{name} {access_key} {} {}", secret(name).expose(), facts.id);
    }
    let listener = tokio::net::TcpListener::bind(&address).await.expect("the address can be bound");
    let listen = listener.local_addr().expect("a bound socket has an address");
    println!("http://{listen}");
    Gateway::new(world.store, GatewayConfig::new(listen)).serve(listener, CancellationToken::new()).await;
}
