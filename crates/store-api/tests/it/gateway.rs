//! Tokens, refusals before any handler, media types and rate limits.

use std::time::Duration;

use convoke_store_api::{RateLimits, ServeSettings};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::served::{SECRET, Served, errors};

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_issued_by_basic_authentication_and_wins_over_the_body() {
    let served = Served::start().await;
    let url = format!("{}/oauth/v1/token", served.base);
    let form_encoded = "a+secret+with+spaces+%26+signs";
    let form = [("grant_type", "client_credentials"), ("client_id", "nobody"), ("client_secret", "nothing")];
    let answer = served.http.post(&url).basic_auth("tester", Some(form_encoded)).form(&form).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(answer.headers()["cache-control"], "no-store");
    let answer: Value = answer.json().await.unwrap();
    assert_eq!((&answer["token_type"], &answer["expires_in"]), (&json!("Bearer"), &json!(3600)));
    assert!(answer["access_token"].as_str().is_some_and(|token| token.len() >= 32));
}

#[tokio::test(flavor = "multi_thread")]
async fn token_refusals_are_those_of_the_standard() {
    let served = Served::start().await;
    let cases = [
        (vec![("grant_type", "password")], 400, "unsupported_grant_type"),
        (vec![("client_id", "tester")], 400, "invalid_request"),
        (vec![("grant_type", "client_credentials")], 400, "invalid_request"),
        (
            vec![("grant_type", "client_credentials"), ("client_id", "tester"), ("client_secret", "no")],
            401,
            "invalid_client",
        ),
        (
            vec![("grant_type", "client_credentials"), ("client_id", "x"), ("client_secret", SECRET)],
            401,
            "invalid_client",
        ),
        (vec![("grant_type", "client_credentials"), ("scope", "root")], 400, "invalid_scope"),
    ];
    for (form, status, error) in cases {
        let answer = served.http.post(format!("{}/oauth/v1/token", served.base)).form(&form).send().await.unwrap();
        assert_eq!(answer.status().as_u16(), status, "{error}");
        let document: Value = answer.json().await.unwrap();
        assert_eq!(document["error"], error);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_valid_token_every_path_answers_401_even_unknown_ones() {
    let served = Served::start().await;
    for path in ["/audiences", "/no/such/path"] {
        for token in [None, Some("wrong")] {
            let mut request = served.http.get(format!("{}/studio/v1{path}", served.base));
            if let Some(token) = token {
                request = request.bearer_auth(token);
            }
            let answer = request.send().await.unwrap();
            assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
            assert!(answer.headers().contains_key("www-authenticate") && answer.headers().contains_key("x-request-id"));
            let document: Value = answer.json().await.unwrap();
            assert_eq!(errors(StatusCode::UNAUTHORIZED, &document)[0].1, "ZI0001");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_ends_with_its_time_and_with_its_client() {
    let served = Served::start().await;
    assert_eq!(served.get("/audiences").await.0, StatusCode::OK);
    served.clock.advance(Duration::from_secs(3600));
    assert_eq!(served.get("/audiences").await.0, StatusCode::UNAUTHORIZED);

    let client = served.store.add_client("second").await.unwrap();
    let token = served.new_token(&client.client_id, &client.secret).await;
    served.store.revoke_client(&client.client_id).await.unwrap();
    let answer =
        served.http.get(format!("{}/studio/v1/audiences", served.base)).bearer_auth(token).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
    let revoked: Vec<bool> =
        served.store.clients().await.unwrap().iter().map(|client| client.revoked_at.is_some()).collect();
    assert_eq!(revoked, [false, true]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_or_default_user_agent_is_refused_with_403() {
    let served = Served::start().await;
    let nameless = reqwest::Client::builder().no_proxy().build().unwrap();
    for agent in [None, Some("python-requests/2.32"), Some("Go-http-client/1.1")] {
        let mut request = nameless.get(format!("{}/studio/v1/audiences", served.base)).bearer_auth(&served.token);
        if let Some(agent) = agent {
            request = request.header("user-agent", agent);
        }
        assert_eq!(request.send().await.unwrap().status(), StatusCode::FORBIDDEN, "{agent:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reading_token_cannot_write() {
    let served = Served::start().await;
    let form = [
        ("grant_type", "client_credentials"),
        ("client_id", "tester"),
        ("client_secret", SECRET),
        ("scope", "api:audience:read"),
    ];
    let answer = served.http.post(format!("{}/oauth/v1/token", served.base)).form(&form).send().await.unwrap();
    let answer: Value = answer.json().await.unwrap();
    let token = answer["access_token"].as_str().unwrap();
    let url = format!("{}/studio/v1/folders", served.base);
    assert_eq!(served.http.get(&url).bearer_auth(token).send().await.unwrap().status(), StatusCode::OK);
    let refused = served.http.post(&url).bearer_auth(token).send().await.unwrap();
    assert_eq!(refused.status(), StatusCode::FORBIDDEN);
    assert_eq!(errors(StatusCode::FORBIDDEN, &refused.json().await.unwrap())[0].1, "ZI0002");
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_paths_methods_and_bodies_answer_in_the_error_shape() {
    let served = Served::with(ServeSettings { max_body_bytes: 2000, ..ServeSettings::default() }).await;
    let post = |media: &'static str, body: String| {
        served.request(Method::POST, "/folders").header("content-type", media).body(body).send()
    };
    let folder = json!({"data": {"type": "Folder", "attributes": {"name": "n"}}}).to_string();
    let cases = [
        (served.request(Method::GET, "/nothing").send().await.unwrap(), 404),
        (served.request(Method::PUT, "/folders").send().await.unwrap(), 405),
        (
            served
                .request(Method::GET, "/folders")
                .header("accept", "application/vnd.api+json; charset=x")
                .send()
                .await
                .unwrap(),
            200,
        ),
        (post("text/plain", folder.clone()).await.unwrap(), 415),
        (post("application/vnd.api+json; charset=utf-8", folder.clone()).await.unwrap(), 415),
        (post("application/vnd.api+json", "{".to_owned()).await.unwrap(), 400),
        (post("application/vnd.api+json", "x".repeat(2001)).await.unwrap(), 413),
        (post("application/json; charset=utf-8", folder).await.unwrap(), 201),
    ];
    for (answer, status) in cases {
        assert_eq!(answer.status().as_u16(), status);
        assert_eq!(answer.headers()["content-type"], "application/vnd.api+json");
        if status >= 400 {
            let code = answer.status();
            errors(code, &answer.json().await.unwrap());
        }
    }
    let only = served.http.get(format!("{}/studio/v1/folders", served.base)).bearer_auth(&served.token);
    let refused =
        only.try_clone().unwrap().header("accept", "application/vnd.api+json; charset=x").send().await.unwrap();
    assert_eq!(refused.status(), StatusCode::NOT_ACCEPTABLE);
    let plain = only.header("accept", "application/json").send().await.unwrap();
    assert_eq!(plain.headers()["content-type"], "application/json");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_used_up_second_answers_429_until_it_is_over() {
    let rate_limits = Some(RateLimits { per_second: 2, per_hour: 100, per_day: 1000 });
    let served = Served::with(ServeSettings { rate_limits, ..ServeSettings::default() }).await;
    let ask = || async { served.request(Method::GET, "/folders").send().await.unwrap() };
    assert_eq!(ask().await.headers()["x-ratelimit-remaining-second"], "1");
    assert_eq!(ask().await.status(), StatusCode::OK);
    let refused = ask().await;
    assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(refused.headers()["x-ratelimit-rejected-bucket"], "second");
    assert_eq!(refused.headers()["retry-after"], "1");
    assert_eq!(refused.headers()["x-ratelimit-remaining-hour"], "98");
    served.clock.advance(Duration::from_secs(1));
    assert_eq!(ask().await.status(), StatusCode::OK);
}
