//! Host calls and memory of a request, held at what they are: an increase has to be meant, and a
//! decrease is kept by lowering the number here. `tollgate-instructions list` prints them.

use tollgate_instructions::allocations::Counting;
use tollgate_instructions::cost;
use tollgate_instructions::scenario::Scenario;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// For each scenario, how often a request asks for memory, and its calls of the host.
const BUDGET: &[(&str, u64, &str)] = &[
    (
        "full",
        27,
        "add_header_map_value 3, get_current_time_nanoseconds 2, get_header_map_pairs 1, \
         get_header_map_value 4, get_property 1, get_shared_data 2, increment_metric 4, \
         remove_header_map_value 2, replace_header_map_value 8, set_property 5, \
         set_shared_data 2",
    ),
    (
        "full-40-headers",
        27,
        "add_header_map_value 3, get_current_time_nanoseconds 2, get_header_map_pairs 1, \
         get_header_map_value 4, get_property 1, get_shared_data 2, increment_metric 4, \
         remove_header_map_value 2, replace_header_map_value 8, set_property 5, \
         set_shared_data 2",
    ),
    (
        "full-new-token",
        72,
        "add_header_map_value 3, call_foreign_function 1, get_current_time_nanoseconds 2, \
         get_header_map_pairs 1, get_header_map_value 4, get_property 1, get_shared_data 2, \
         increment_metric 4, remove_header_map_value 2, replace_header_map_value 8, \
         set_property 5, set_shared_data 2",
    ),
    (
        "full-401",
        33,
        "get_current_time_nanoseconds 1, get_header_map_pairs 1, get_property 1, \
         get_shared_data 1, increment_metric 2, replace_header_map_value 2, \
         send_local_response 1, set_property 3, set_shared_data 1",
    ),
    (
        "full-429",
        40,
        "get_current_time_nanoseconds 2, get_header_map_pairs 1, get_property 1, \
         get_shared_data 1, increment_metric 2, remove_header_map_value 2, \
         replace_header_map_value 2, send_local_response 1, set_property 3",
    ),
    (
        "request-id",
        9,
        "get_current_time_nanoseconds 1, get_header_map_pairs 1, increment_metric 1, \
         replace_header_map_value 3, set_property 1",
    ),
    (
        "problem-details",
        5,
        "get_current_time_nanoseconds 1, get_header_map_pairs 1, get_header_map_value 1, \
         increment_metric 1, set_property 1",
    ),
    (
        "rate-limit",
        14,
        "add_header_map_value 2, get_current_time_nanoseconds 1, get_header_map_pairs 1, \
         get_property 1, get_shared_data 1, increment_metric 2, set_property 2, \
         set_shared_data 1",
    ),
    (
        "jwt-authz",
        5,
        "get_current_time_nanoseconds 1, get_header_map_pairs 1, increment_metric 1, \
         remove_header_map_value 1, replace_header_map_value 1, set_property 2",
    ),
    (
        "usage-plan",
        15,
        "add_header_map_value 2, get_current_time_nanoseconds 2, get_header_map_pairs 1, \
         get_shared_data 1, increment_metric 2, remove_header_map_value 1, \
         replace_header_map_value 2, set_property 4, set_shared_data 1",
    ),
    (
        "sunset",
        7,
        "add_header_map_value 1, get_current_time_nanoseconds 1, get_header_map_pairs 1, \
         get_header_map_value 3, increment_metric 2, replace_header_map_value 2, set_property 3",
    ),
    (
        "keys-only",
        6,
        "get_current_time_nanoseconds 1, get_header_map_pairs 1, increment_metric 2, \
         remove_header_map_value 1, replace_header_map_value 2",
    ),
];

#[test]
fn a_request_costs_what_it_did() {
    let held = Scenario::HELD.map(Scenario::name);
    let listed: Vec<&str> = BUDGET.iter().map(|(name, ..)| *name).collect();
    assert_eq!(listed, held);
    let differences: Vec<String> = BUDGET
        .iter()
        .filter_map(|(name, allocations, calls)| {
            let scenario = Scenario::named(name).unwrap();
            let cost = cost::measure(scenario);
            let is = (cost.allocations.ceil() as u64, cost.calls());
            let was = (*allocations, (*calls).to_owned());
            (is != was).then(|| format!("{name}\n  was {was:?}\n  is  {is:?}\n"))
        })
        .collect();
    assert!(
        differences.is_empty(),
        "{}Where it is less, lower the number; where it is more, the commit says why.",
        differences.concat()
    );
}
