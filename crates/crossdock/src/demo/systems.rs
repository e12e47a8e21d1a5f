//! The systems around the hub, and what the configuration must know of them.

use std::{net::SocketAddr, time::Duration};

use crossdock_sim::{
    Behaviour, Crm, CrmOptions, Lasting, LedgerOptions, Place, Shop, ShopOptions, StartError, Warehouse,
    WarehouseOptions,
};
use uuid::Uuid;

/// Webhooks a second.
const RATE: f64 = 5.0;

/// CRM and warehouse, listening on free ports of loopback, and the secrets of all three systems, new for every demo.
pub struct Systems {
    /// The CRM.
    pub crm: Crm,
    /// The warehouse.
    pub warehouse: Warehouse,
    crm_token: String,
    warehouse_secret: String,
    shop_secret: String,
}

impl Systems {
    /// Starts CRM and warehouse. The shop opens last: it needs the hub.
    pub async fn start() -> Result<Self, StartError> {
        let secret = || Uuid::new_v4().simple().to_string();
        // 32 hexadecimal digits are base64 of 24 bytes, too.
        let (crm_token, warehouse_secret) = (secret(), format!("whsec_{}", secret()));
        let ledger = LedgerOptions::default();
        // The order whose events must come in order.
        let orders = LedgerOptions { key: Some(Place::Pointer("/order".to_owned())), ..ledger.clone() };
        let crm = CrmOptions { port: 0, token: crm_token.clone(), ledger: orders };
        let warehouse = WarehouseOptions { port: 0, secret: warehouse_secret.clone(), ledger };
        Ok(Self {
            crm: Crm::start(crm).await?,
            warehouse: Warehouse::start(warehouse).await?,
            crm_token,
            warehouse_secret,
            shop_secret: secret(),
        })
    }

    /// The variables of the demo's configuration. Nothing else of the environment gets into it.
    pub fn variable(&self, name: &str, listen: SocketAddr) -> Option<String> {
        match name {
            "DEMO_LISTEN" => Some(listen.to_string()),
            "DEMO_SHOP_SECRET" => Some(self.shop_secret.clone()),
            "DEMO_CRM_URL" => Some(self.crm.url()),
            "DEMO_CRM_TOKEN" => Some(self.crm_token.clone()),
            "DEMO_WAREHOUSE_URL" => Some(self.warehouse.url()),
            "DEMO_WAREHOUSE_SECRET" => Some(self.warehouse_secret.clone()),
            _ => None,
        }
    }

    /// Opens the shop: from now on its webhooks come in.
    pub fn open_shop(&self, hub: SocketAddr) -> Shop {
        let options = ShopOptions::new(format!("http://{hub}/in/shop"), &self.shop_secret);
        Shop::start(ShopOptions { rate: Some(RATE), ..options })
    }

    /// The CRM answers 503 until [`Systems::recover`].
    pub fn break_crm(&self) {
        self.crm.behave(Behaviour::Outage(Lasting::UntilTold));
    }

    /// The CRM is well again.
    pub fn recover(&self) {
        self.crm.behave(Behaviour::Ok);
    }

    /// The CRM asks for a pause, for as long as the pause takes.
    pub fn throttle_crm(&self, pause: Duration) {
        self.crm.behave(Behaviour::Throttle { retry_after: pause, lasting: Lasting::Time(pause) });
    }

    /// Closes CRM and warehouse.
    pub async fn stop(self) {
        self.crm.stop().await;
        self.warehouse.stop().await;
    }
}
