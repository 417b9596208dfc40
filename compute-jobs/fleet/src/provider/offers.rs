//! What the market says of the provider, brought to what its configuration says.
//!
//! Invariant: asked again it changes nothing; an offer whose terms differ gets a new version, and locks that are open
//! keep theirs.

use ashlar_compute_api::Address;

use super::{ModelOffer, ProviderConfig, ProviderError};
use crate::escrow::{Escrow, OfferTerms};

/// Offers of one provider that are looked through.
const OFFERS_MAX: u32 = 256;

/// Registers the account, or brings its key and endpoint up to date.
pub(super) async fn register(escrow: &Escrow, config: &ProviderConfig) -> Result<(), ProviderError> {
    let key: Address = config.signing_key.address();
    match escrow.provider(escrow.account()).await? {
        None => escrow.register(key, &config.endpoint, config.stake_wei).await?,
        Some(state) if state.is_slashed => {
            let reason = "an offence of this provider was proven: it takes no locks any more".to_owned();
            return Err(ProviderError::Configuration { reason });
        }
        Some(state) if state.signing_key != key => escrow.update(key, &config.endpoint).await?,
        Some(_) => {}
    }
    Ok(())
}

/// Number and version of the offer with these terms, published or revised if need be.
pub(super) async fn publish(escrow: &Escrow, model: &ModelOffer) -> Result<(u32, u32), ProviderError> {
    let wanted = OfferTerms {
        kind: model.kind.number(),
        unit_price: model.unit_price,
        cap_min: model.cap_min,
        cap_max: model.cap_max,
        work_seconds_max: model.work_seconds_max,
        model_root: model.root,
        limits: model.limits,
    };
    let provider = escrow.account();
    let offers = escrow.provider(provider).await?.map_or(0, |state| state.offers);
    for number in 1..=offers.min(OFFERS_MAX) {
        let Some((version, found)) = escrow.offer(provider, number).await? else { continue };
        if found == wanted {
            return Ok((number, version));
        }
        if (found.kind, found.model_root) == (wanted.kind, wanted.model_root) {
            escrow.revise_offer(number, version, &wanted).await?;
            return Ok((number, version + 1));
        }
    }
    let number = offers + 1;
    escrow.publish_offer(number, &wanted).await?;
    Ok((number, 1))
}
