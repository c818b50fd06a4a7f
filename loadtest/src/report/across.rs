//! What the subscribers at each of several nodes received, and whether all received it in one order.

use serde_json::{Value, json};

use crate::order::Order;
use crate::report::figure::{Better, Unit};
use crate::report::{Record, deliveries_json, loss_cells};
use crate::table::{Table, grouped, plural, were};
use crate::tally::{Deliveries, Tally};

/// The subscribers at one node.
#[derive(Clone, Debug)]
pub(crate) struct AtNode {
    /// The node's address.
    pub(crate) name: String,
    pub(crate) clients: usize,
    pub(crate) deliveries: Deliveries,
}

/// The subscribers of a run with several nodes.
#[derive(Clone, Debug)]
pub(crate) struct Across {
    pub(crate) nodes: Vec<AtNode>,
    pub(crate) order: Order,
}

impl Across {
    /// Returns what each group of subscribers received, with the group's node and deliveries; `None`
    /// if all were at one node.
    pub(crate) fn of<'a>(
        groups: impl IntoIterator<Item = (&'a str, Deliveries, &'a [Tally])>,
    ) -> Option<Self> {
        let mut nodes: Vec<AtNode> = Vec::new();
        let mut subscribers = Vec::new();
        for (name, deliveries, tallies) in groups {
            let found = nodes.iter().position(|node| node.name == name);
            let at = found.unwrap_or(nodes.len());
            match nodes.get_mut(at) {
                Some(node) => {
                    node.clients += tallies.len();
                    node.deliveries.merge(deliveries);
                }
                None => {
                    let (name, clients) = (name.to_owned(), tallies.len());
                    nodes.push(AtNode { name, clients, deliveries });
                }
            }
            subscribers.extend(tallies.iter().map(|tally| (at, tally)));
        }
        (nodes.len() > 1).then(|| Self { nodes, order: Order::of(subscribers) })
    }

    /// Adds the rows for people.
    pub(super) fn rows(&self, table: &mut Table) {
        for AtNode { name, clients, deliveries } in &self.nodes {
            table.line("", &format!("of these, at {name}:"));
            let received = ("received", grouped(deliveries.received));
            table.row("  deliveries", [("clients", grouped(*clients as u64)), received]);
            table.row("", loss_cells(deliveries));
        }
    }

    /// Adds the result for machines.
    pub(super) fn put_into(&self, result: &mut Value) {
        let node = |node: &AtNode| {
            let deliveries = deliveries_json(&node.deliveries);
            json!({ "node": node.name, "clients": node.clients, "deliveries": deliveries })
        };
        result["nodes"] = self.nodes.iter().map(node).collect();
        let Order { compared, not_compared, partly_known, difference } = &self.order;
        let difference = difference.map(|it| {
            let nodes = it.nodes.map(|at| self.nodes[at].name.as_str());
            json!({ "channel": it.channel, "nodes": nodes, "publications": it.publications })
        });
        result["order"] = json!({
            "one": self.fault().is_none(),
            "compared": compared,
            "not_compared": not_compared,
            "partly_known": partly_known,
            "first_difference": difference,
        });
    }

    /// Adds the figures that runs are compared by.
    pub(super) fn figures(&self, record: &mut Record) {
        for AtNode { name, deliveries, .. } in &self.nodes {
            let lost = Some(deliveries.lost as f64);
            record.figure(&format!("lost at {name}"), Unit::Count, Better::Lower, lost);
        }
    }

    /// Returns sentences for the verdict.
    pub(crate) fn sentences(&self) -> Vec<String> {
        let of_node = |node: &AtNode| {
            let Deliveries { expected, lost, duplicated, .. } = node.deliveries;
            let clients = plural(node.clients, "subscriber");
            format!(
                "At {}, {clients} lost {} of {} deliveries; {} duplicated.",
                node.name,
                grouped(lost),
                grouped(expected),
                were(duplicated, "delivery")
            )
        };
        let mut sentences: Vec<_> = self.nodes.iter().map(of_node).collect();
        sentences.push(match self.fault() {
            Some(fault) => format!("There is no one order across nodes: {fault}."),
            None => format!(
                "There is one order across nodes, by the comparison of {}.",
                plural(self.order.compared, "subscriber")
            ),
        });
        let Order { not_compared, partly_known, .. } = self.order;
        if not_compared > 0 {
            let clients = plural(not_compared, "subscriber");
            sentences.push(format!("The order of {clients} was not compared: too much came late."));
        }
        if partly_known > 0 {
            let clients = plural(partly_known, "subscriber");
            sentences.push(format!("Of {clients} only the first late deliveries were compared."));
        }
        sentences
    }

    /// Returns the defect if the subscribers have no one order.
    pub(super) fn defect(&self) -> Option<String> {
        self.fault().map(|fault| format!("there is no one order across nodes: {fault}"))
    }

    /// Returns why the nodes have no one order: at a node whose subscribers received nothing, no
    /// order can be compared.
    fn fault(&self) -> Option<String> {
        if let Some(it) = self.order.difference {
            let [one, other] = it.nodes.map(|at| &self.nodes[at].name);
            let [before, behind] = it.publications.map(grouped);
            let channel = it.channel.map(|number| format!(" on channel number {number}"));
            return Some(format!(
                "a subscriber at {one} received publication {before} before {behind}{}, and one at \
                 {other} received {behind} before {before}",
                channel.unwrap_or_default()
            ));
        }
        let is_deaf = |node: &&AtNode| node.deliveries.received == 0 && node.clients > 0;
        let deaf = self.nodes.iter().find(is_deaf)?;
        Some(format!("subscribers at {} received nothing", deaf.name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tally::{Outcome, Outcomes};

    fn across(nodes: &[(&str, &[&[u64]])]) -> Option<Across> {
        let outcomes = Outcomes::new(&[Outcome::Accepted; 4]);
        let tallies = |numbers: &[&[u64]]| -> Vec<Tally> {
            let tally = |numbers: &&[u64]| {
                let mut tally = Tally::default();
                for number in *numbers {
                    tally.note(*number);
                }
                tally
            };
            numbers.iter().map(tally).collect()
        };
        let groups: Vec<_> = nodes.iter().map(|(name, all)| (*name, tallies(all))).collect();
        Across::of(groups.iter().map(|(name, tallies)| {
            let mut deliveries = Deliveries::default();
            tallies.iter().for_each(|tally| deliveries.add(tally, &outcomes, false));
            (*name, deliveries, tallies.as_slice())
        }))
    }

    fn json(across: &Across) -> Value {
        let mut result = json!({});
        across.put_into(&mut result);
        result
    }

    #[test]
    fn one_node_is_not_compared_with_itself() {
        assert!(across(&[("a:1", &[&[0, 1, 2, 3]]), ("a:1", &[&[1, 0]])]).is_none());
    }

    #[test]
    fn groups_of_a_node_are_added_up_and_loss_is_told_by_node() {
        let all: [(&str, &[&[u64]]); 3] = [
            ("a:1", &[&[0, 1, 2, 3]]),
            ("b:2", &[&[0, 3], &[0, 1, 2, 3, 3]]),
            ("a:1", &[&[0, 1, 2]]),
        ];
        let across = across(&all).unwrap();
        assert_eq!(across.defect(), None);
        assert_eq!(
            across.sentences(),
            [
                "At a:1, 2 subscribers lost 1 of 8 deliveries; 0 deliveries were duplicated.",
                "At b:2, 2 subscribers lost 2 of 8 deliveries; 1 delivery was duplicated.",
                "There is one order across nodes, by the comparison of 4 subscribers.",
            ]
        );
        let json = json(&across);
        assert_eq!(json["nodes"][1]["node"], "b:2");
        assert_eq!(json["nodes"][1]["deliveries"]["lost"], 2);
        assert_eq!((&json["order"]["one"], &json["order"]["compared"]), (&true.into(), &4.into()));
    }

    #[test]
    fn a_difference_is_named_with_its_nodes() {
        let across = across(&[("a:1", &[&[0, 1, 2, 3]]), ("b:2", &[&[0, 2, 1, 3]])]).unwrap();
        let fault = "there is no one order across nodes: a subscriber at a:1 received publication 1 \
                     before 2, and one at b:2 received 2 before 1";
        assert_eq!(across.defect().as_deref(), Some(fault));
        let json = json(&across);
        assert_eq!(json["order"]["one"], false);
        assert_eq!(
            json["order"]["first_difference"],
            json!({ "channel": null, "nodes": ["a:1", "b:2"], "publications": [1, 2] })
        );
    }

    #[test]
    fn a_node_that_received_nothing_shares_no_order() {
        let across = across(&[("a:1", &[&[0, 1, 2, 3]]), ("b:2", &[&[]])]).unwrap();
        let fault = "there is no one order across nodes: subscribers at b:2 received nothing";
        assert_eq!(across.defect().as_deref(), Some(fault));
        assert_eq!(json(&across)["order"]["one"], false);
    }
}
