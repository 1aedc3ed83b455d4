//! The destination: both traits of `core`, each call one attempt.

use std::sync::Arc;

use async_trait::async_trait;
use convoke_core::enrichment::{EnrichmentAnswer, EnrichmentJob, EnrichmentScope, RowStates};
use convoke_core::gate::Gate;
use convoke_core::sink::{
    Answer, AudienceBinding, AudienceSetup, AudienceTarget, Capabilities, FoundRow, JobId, JobState, LookUp, Provision,
    ProvisionAnswer, Request, ScanPage, Sink, Survey,
};
use convoke_core::{Clock, SinkError};

use crate::api::Api;
use crate::settings::{Endpoints, Error, GtmSettings};
use crate::token::TokenSource;
use crate::transport::Transport;
use crate::{client, enrich, provision, rows, scan, search, survey};

/// Rows per bulk upsert that the API takes.
const UPSERT_ROWS: usize = 500;

/// Rows per bulk delete that the API takes.
const DELETE_ROWS: usize = 1000;

/// GTM Studio, or a service that speaks its audience API, as a destination.
pub struct GtmSink {
    api: Api,
    capabilities: Capabilities,
}

impl GtmSink {
    /// Builds the HTTP client and checks the settings; sends nothing.
    ///
    /// Every HTTP request, those for tokens too, passes `gate`. `clock` decides when a token is renewed.
    pub fn new(settings: GtmSettings, gate: Arc<dyn Gate>, clock: Arc<dyn Clock>) -> Result<Self, Error> {
        let endpoints = Endpoints::parse(&settings)?;
        let client = client::build(&settings, &endpoints)?;
        let capabilities = Capabilities {
            upsert_rows: UPSERT_ROWS,
            delete_rows: DELETE_ROWS,
            look_up_ids: search::PAGE_ROWS,
            // The vendor does not say whether a refused request applies nothing.
            atomic_refusals: false,
            max_commit_delay: settings.max_commit_delay,
            settle: settings.settle,
            request_timeout: settings.http.request_timeout,
            requests_in_flight: settings.requests_in_flight,
            enrich_rows: Some(enrich::ENRICH_ROWS),
        };
        let transport = Transport::new(client, gate, clock, settings.http.request_timeout);
        let tokens = TokenSource::new(endpoints.token, settings.client_id, settings.client_secret);
        Ok(Self { api: Api::new(endpoints.base, transport, tokens), capabilities })
    }

    /// The same destination for requests that pass another gate; connections and token are shared.
    #[must_use]
    pub fn through(&self, gate: Arc<dyn Gate>) -> Self {
        Self { api: self.api.through(gate), capabilities: self.capabilities.clone() }
    }
}

#[async_trait]
impl AudienceSetup for GtmSink {
    async fn survey(&self, target: &AudienceTarget, known_id: Option<&str>) -> Result<Survey, SinkError> {
        survey::survey(&self.api, target, known_id).await
    }

    async fn provision(&self, step: &Provision) -> Result<ProvisionAnswer, SinkError> {
        provision::provision(&self.api, step).await
    }
}

#[async_trait]
impl Sink for GtmSink {
    fn capabilities(&self) -> Capabilities {
        self.capabilities.clone()
    }

    async fn send(&self, audience: &AudienceBinding, request: &Request) -> Result<Answer, SinkError> {
        rows::send(&self.api, audience, request).await
    }

    async fn poll(&self, audience: &AudienceBinding, job: &JobId) -> Result<JobState, SinkError> {
        rows::poll(&self.api, audience, job).await
    }

    async fn look_up(&self, audience: &AudienceBinding, query: &LookUp) -> Result<Vec<FoundRow>, SinkError> {
        search::look_up(&self.api, audience, query).await
    }

    async fn scan(&self, audience: &AudienceBinding, cursor: Option<&str>) -> Result<ScanPage, SinkError> {
        scan::scan(&self.api, audience, cursor).await
    }

    async fn enrich(&self, audience: &AudienceBinding, scope: &EnrichmentScope) -> Result<EnrichmentAnswer, SinkError> {
        enrich::enrich(&self.api, audience, scope).await
    }

    async fn enrichment(&self, audience: &AudienceBinding, job: &JobId) -> Result<EnrichmentJob, SinkError> {
        enrich::enrichment(&self.api, audience, job).await
    }

    async fn cell_states(
        &self,
        audience: &AudienceBinding,
        column_ids: &[String],
        scope: &EnrichmentScope,
        limit: usize,
    ) -> Result<Vec<RowStates>, SinkError> {
        enrich::cell_states(&self.api, audience, column_ids, scope, limit).await
    }
}
