//! The model keeps every promise that it is used to measure.

mod broker {
    crossdock_testkit::broker_suite!(crossdock_testkit::Memory);
}

mod sharing {
    crossdock_testkit::sharing_suite!(crossdock_testkit::Memory);
}

mod outbox {
    crossdock_testkit::outbox_suite!(crossdock_testkit::Memory);
}

mod store {
    crossdock_testkit::store_suite!(crossdock_testkit::Memory);
}

mod event_log {
    crossdock_testkit::event_log_suite!(crossdock_testkit::Memory);
}

mod leases {
    crossdock_testkit::leases_suite!(crossdock_testkit::Memory);
}

mod checkpoints {
    crossdock_testkit::checkpoints_suite!(crossdock_testkit::Memory);
}

mod outbox_log {
    crossdock_testkit::outbox_log_suite!(crossdock_testkit::OutboxRows);
}

mod random {
    crossdock_testkit::random_store_suite!(crossdock_testkit::Memory);
    crossdock_testkit::random_log_suite!(crossdock_testkit::Memory);
}
