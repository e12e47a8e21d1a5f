//! What happens in a shop: customers, orders and their changes.

use jiff::Timestamp;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde_json::{Value, json};

/// What the shop sells: SKU, title, price in cents.
pub(crate) const SKUS: [(&str, &str, u64); 6] = [
    ("MUG-BLUE", "Mug, blue", 1250),
    ("MUG-GREEN", "Mug, green", 1250),
    ("TEA-250", "Assam tea, 250 g", 890),
    ("POT-1L", "Teapot, 1 l", 3490),
    ("TRAY-OAK", "Tray, oak", 2795),
    ("SPOON-4", "Spoons, set of 4", 1600),
];

const NAMES: [(&str, &str); 12] = [
    ("Ada", "Moreau"),
    ("Bruno", "Keller"),
    ("Chiara", "Rossi"),
    ("Dev", "Patel"),
    ("Elif", "Kaya"),
    ("Femi", "Adeyemi"),
    ("Grete", "Lund"),
    ("Hana", "Sato"),
    ("Iker", "Etxeberria"),
    ("Jana", "Novak"),
    ("Kofi", "Mensah"),
    ("Lucía", "Vargas"),
];

const NOTES: [Option<&str>; 4] =
    [None, None, Some("leave it at the door"), Some("a present: no bill, please")];

/// Something odd about an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Quirk {
    /// `email` is null.
    NoEmail,
    /// Its only line has this SKU.
    Sku(String),
}

/// What a webhook tells.
#[derive(Debug, Clone)]
pub struct ShopOrder {
    /// `orders/create`, `orders/updated` or `orders/paid`.
    pub topic: &'static str,
    /// The order's name, such as `#1042`.
    pub order: String,
    /// The customer's id: the key.
    pub customer: u64,
    /// The number of this event among the customer's, from 1: `customer.sequence` in the payload, by which receivers check
    /// the order. (Shopify has no such field.)
    pub sequence: u64,
    /// The payload.
    pub payload: Value,
}

/// Makes one event after the other.
pub(crate) struct Orders {
    random: StdRng,
    customers: Vec<Customer>,
    open: Vec<Open>,
    next_number: u64,
}

struct Customer {
    id: u64,
    name: (&'static str, &'static str),
    email: String,
    sequence: u64,
}

/// An order with changes to come.
struct Open {
    customer: usize,
    order: Value,
    updated: bool,
}

impl Orders {
    pub(crate) fn new(seed: u64, customers: usize) -> Self {
        let customer = |n: usize| {
            let name = NAMES[n % NAMES.len()];
            let suffix = if n < NAMES.len() { String::new() } else { (n / NAMES.len() + 1).to_string() };
            let email = format!("{}{suffix}@example.com", name.0.to_lowercase().replace('í', "i"));
            Customer { id: 7001 + n as u64, name, email, sequence: 0 }
        };
        Self {
            random: StdRng::seed_from_u64(seed),
            customers: (0..customers.max(1)).map(customer).collect(),
            open: Vec::new(),
            next_number: 1001,
        }
    }

    /// A webhook's id.
    pub(crate) fn id(&mut self) -> String {
        uuid::Builder::from_random_bytes(self.random.random()).into_uuid().to_string()
    }

    /// The next event: a change of an open order or a new one. An odd order is always new, and has no later changes.
    pub(crate) fn next(&mut self, quirk: Option<&Quirk>, now: Timestamp) -> ShopOrder {
        let open = self.open.len();
        if quirk.is_none() && open > 0 && (open > 2 * self.customers.len() || self.random.random_bool(0.6)) {
            return self.change(now);
        }
        let customer = self.random.random_range(0..self.customers.len());
        let order = self.create(customer, quirk, now);
        if quirk.is_none() {
            self.open.push(Open { customer, order: order.clone(), updated: false });
        }
        self.tell("orders/create", customer, order)
    }

    fn change(&mut self, now: Timestamp) -> ShopOrder {
        let at = self.random.random_range(0..self.open.len());
        self.open[at].order["updated_at"] = json!(now);
        if self.open[at].updated || self.random.random_bool(0.5) {
            let mut paid = self.open.swap_remove(at);
            paid.order["financial_status"] = json!("paid");
            return self.tell("orders/paid", paid.customer, paid.order);
        }
        let note = NOTES[2 + self.random.random_range(0..2)];
        let open = &mut self.open[at];
        open.updated = true;
        open.order["note"] = json!(note);
        let (customer, order) = (open.customer, open.order.clone());
        self.tell("orders/updated", customer, order)
    }

    fn create(&mut self, customer: usize, quirk: Option<&Quirk>, now: Timestamp) -> Value {
        let number = self.next_number;
        self.next_number += 1;
        let (lines, total) = match quirk {
            Some(Quirk::Sku(sku)) => (vec![line(number, 0, (sku, "Something new", 4200), 1)], 4200),
            _ => self.lines(number),
        };
        let buyer = &self.customers[customer];
        let email = (quirk != Some(&Quirk::NoEmail)).then_some(&buyer.email);
        json!({
            "id": 5_500_000_000_000 + number,
            "name": format!("#{number}"),
            "order_number": number,
            "email": email,
            "created_at": now,
            "updated_at": now,
            "currency": "EUR",
            "total_price": money(total),
            "financial_status": "pending",
            "note": NOTES[self.random.random_range(0..NOTES.len())],
            "customer": {
                "id": buyer.id,
                "email": email,
                "first_name": buyer.name.0,
                "last_name": buyer.name.1,
            },
            "line_items": lines,
        })
    }

    fn lines(&mut self, number: u64) -> (Vec<Value>, u64) {
        let (mut lines, mut total) = (Vec::new(), 0);
        let first = self.random.random_range(0..SKUS.len());
        for nth in 0..self.random.random_range(1..=3) {
            let article = SKUS[(first + nth) % SKUS.len()];
            let quantity = self.random.random_range(1..=4);
            total += quantity * article.2;
            lines.push(line(number, nth as u64, article, quantity));
        }
        (lines, total)
    }

    fn tell(&mut self, topic: &'static str, customer: usize, mut payload: Value) -> ShopOrder {
        let customer = &mut self.customers[customer];
        customer.sequence += 1;
        payload["customer"]["sequence"] = json!(customer.sequence);
        let order = payload["name"].as_str().unwrap_or_default().to_owned();
        ShopOrder { topic, order, customer: customer.id, sequence: customer.sequence, payload }
    }
}

fn line(number: u64, nth: u64, (sku, title, cents): (&str, &str, u64), quantity: u64) -> Value {
    let id = number * 10 + nth;
    json!({ "id": id, "sku": sku, "title": title, "quantity": quantity, "price": money(cents) })
}

/// Cents as Shopify writes money: text with two places.
fn money(cents: u64) -> String {
    format!("{}.{:02}", cents / 100, cents % 100)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn story(seed: u64, events: usize) -> Vec<ShopOrder> {
        let mut orders = Orders::new(seed, 5);
        (0..events).map(|_| orders.next(None, Timestamp::UNIX_EPOCH)).collect()
    }

    #[test]
    fn a_seed_tells_one_story() {
        let text = |seed| story(seed, 50).iter().map(|o| o.payload.to_string()).collect::<Vec<_>>();
        assert_eq!(text(7), text(7));
        assert_ne!(text(7), text(8));
    }

    #[test]
    fn each_customer_counts_from_one_without_a_hole() {
        let mut last = std::collections::HashMap::new();
        for event in story(3, 300) {
            let before = last.insert(event.customer, event.sequence).unwrap_or(0);
            assert_eq!(event.sequence, before + 1);
        }
    }

    #[test]
    fn orders_are_created_then_changed_then_paid() {
        let rank =
            |topic| ["orders/create", "orders/updated", "orders/paid"].iter().position(|t| *t == topic);
        let mut last = std::collections::HashMap::new();
        for event in story(4, 300) {
            let before = last.insert(event.order.clone(), rank(event.topic));
            assert!(
                before.is_none_or(|before| before < rank(event.topic)),
                "{}: {}",
                event.order,
                event.topic
            );
        }
    }

    #[test]
    fn an_odd_order_is_odd() {
        let mut orders = Orders::new(1, 3);
        let no_email = orders.next(Some(&Quirk::NoEmail), Timestamp::UNIX_EPOCH).payload;
        assert!(no_email["email"].is_null() && no_email["customer"]["email"].is_null());
        let odd = orders.next(Some(&Quirk::Sku("LAMP-X".to_owned())), Timestamp::UNIX_EPOCH).payload;
        assert_eq!(odd["line_items"][0]["sku"], "LAMP-X");
    }
}
