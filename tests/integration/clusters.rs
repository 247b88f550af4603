//! The clusters that the tests run on are what they promise to be.

use forebay::embedded::Stop;
use support::postgres::{Postgres, database};
use tokio_postgres::{Client, NoTls};

async fn count(client: &Client) -> i64 {
    client
        .batch_execute("CREATE TABLE IF NOT EXISTS rows (); INSERT INTO rows DEFAULT VALUES")
        .await
        .unwrap();
    client.query_one("SELECT count(*) FROM rows", &[]).await.unwrap().get(0)
}

#[tokio::test]
async fn every_test_has_a_database_of_its_own() {
    let (first, second) = tokio::join!(database(), database());
    assert_eq!(count(&first.connect().await).await, 1);
    assert_eq!(count(&second.connect().await).await, 1);
    let (over_tcp, connection) =
        tokio_postgres::connect(&first.dsn_by_way_of(first.address()), NoTls).await.unwrap();
    tokio::spawn(connection);
    assert_eq!(count(&over_tcp).await, 2);
}

#[tokio::test]
async fn a_cluster_of_ones_own_comes_back_where_it_was() {
    let mut postgres = Postgres::start().await;
    let database = postgres.database().await;
    for (row, stop) in (1..).zip([Stop::Fast, Stop::Immediate, Stop::Kill]) {
        let client = database.connect().await;
        assert_eq!(count(&client).await, row);
        postgres.stop(stop).await;
        assert!(tokio_postgres::connect(database.dsn(), NoTls).await.is_err());
        postgres.start_again().await;
    }
    assert_eq!(count(&database.connect().await).await, 4);
}
