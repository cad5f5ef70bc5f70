"""The catalogue of the field's bugs, row by row: the tests that fail if its property does not hold (bug-catalogue).

A row is answered by tests, as pytest names them (`file::test`, a law of the contract suite, or a whole file), or by one
sentence that says why it cannot occur here. tests/test_bugs.py keeps the table complete and its tests existing.
"""

from __future__ import annotations

from typing import Final

ROWS: Final[dict[str, tuple[str, ...]]] = {
    "1": (
        "tests/scenarios/test_crash.py::test_what_happens_while_it_is_down_is_found_at_start",
        "tests/sim/test_sim.py::test_every_universe_keeps_the_promises",
    ),
    "2": (
        "tests/scenarios/test_crash.py::test_kill_9_in_the_middle_of_a_thousand_of_each_loses_and_doubles_nothing",
        "tests/core/test_laws.py::test_a_crash_anywhere_is_resumed",
    ),
    "3": ("tests/core/test_retention.py::test_a_stopped_vms_nics_are_judged_one_by_one",),
    "4": (
        "tests/core/test_entitlement.py::test_what_cannot_be_read_is_said",
        "tests/core/test_release.py::test_the_nics_of_a_stopped_vm_are_let_go_of_one_by_one",
        "tests/core/test_retention.py::test_what_is_not_known_never_frees",
        "tests/reconcilers/test_workloads.py::test_a_stateful_set_is_known_as_far_as_it_was_read",
    ),
    "5": (
        "tests/scenarios/test_statefulsets.py::test_a_pod_that_is_made_anew_has_the_address_that_it_had",
        "tests/scenarios/test_crash.py::test_what_happens_while_it_is_down_is_found_at_start",
        "tests/reconcilers/test_rebuild.py::test_the_ledger_after_a_restart_is_the_ledger_before_it",
    ),
    "6": (
        "tests/reconcilers/test_rebuild.py::test_the_ledger_after_a_restart_is_the_ledger_before_it",
        "tests/machines/test_ledger.py::test_a_record_that_goes_takes_nobody_elses_claim_along",
        "tests/sim/test_sim.py::test_every_universe_keeps_the_promises",
        "tests/reconcilers/test_survey.py",
    ),
    "7": ("tests/machines/test_ledger.py::test_a_record_that_goes_takes_nobody_elses_claim_along",),
    "8": (
        "tests/reconcilers/test_rebuild.py::test_the_ledger_after_a_restart_is_the_ledger_before_it",
        "tests/scenarios/test_neighbours.py::test_the_address_of_a_vip_is_nobody_elses_also_after_a_restart",
    ),
    "9": (
        "tests/scenarios/test_statefulsets.py::test_what_was_scaled_down_while_nobody_looked_is_free_afterwards",
        "tests/scenarios/test_vms.py::test_a_vm_that_is_deleted_while_it_is_stopped_leaves_nothing",
    ),
    "10": (
        "tests/scenarios/test_crash.py::test_what_happens_while_it_is_down_is_found_at_start",
        "tests/core/test_laws.py::test_every_write_carries_its_precondition",
        "tests/sim/test_sim.py::test_every_universe_keeps_the_promises",
    ),
    "11": (
        "tests/core/test_laws.py::test_any_wreckage_converges_and_every_prefix_is_legal",
        "tests/scenarios/test_crash.py::test_kill_9_in_the_middle_of_a_thousand_of_each_loses_and_doubles_nothing",
    ),
    "12": (
        "tests/core/test_records.py::test_an_address_of_no_subnet_is_nobodys",
        "tests/machines/test_atlas.py::test_the_same_numbers_elsewhere_are_no_overlap",
        "tests/machines/test_ledger.py::test_equal_addresses_in_two_subnets_are_two_addresses",
    ),
    "13": ("tests/scenarios/test_vms.py::test_a_vm_that_is_deleted_while_it_is_stopped_leaves_nothing",),
    "14": ("tests/scenarios/test_statefulsets.py::test_what_was_scaled_down_while_nobody_looked_is_free_afterwards",),
    "15": ("tests/scenarios/test_neighbours.py::test_a_subnets_own_addresses_are_occupied_and_go_with_it",),
    "16": ("tests/machines/test_ledger.py::test_a_record_that_moves_is_never_free_in_between",),
    "17": ("tests/scenarios/test_statefulsets.py::test_another_subnet_in_the_template_frees_the_old_address",),
    "18": (
        "tests/core/test_networks.py::test_a_nic_that_has_its_address_keeps_its_name",
        "tests/core/test_nics.py::test_a_full_subnet_stops_its_own_nic_only",
        "tests/core/test_release.py::test_the_nics_of_a_stopped_vm_are_let_go_of_one_by_one",
        "tests/core/test_retention.py::test_a_stopped_vms_nics_are_judged_one_by_one",
        "tests/core/test_retention.py::test_a_port_that_is_no_nic_of_a_live_pod_goes_unless_a_vm_declares_it",
    ),
    "19": (
        "tests/core/test_naming.py::test_a_port_is_named_after_pod_namespace_and_provider",
        "tests/core/test_naming.py::test_a_pod_is_owned_by_itself_and_a_vms_pod_by_the_vm",
        "tests/scenarios/test_vms.py::test_a_vm_that_is_deleted_while_it_is_stopped_leaves_nothing",
    ),
    "20": ("tests/scenarios/test_nics.py::test_the_ipam_of_another_cni",),
    "21": (
        "tests/core/test_networks.py::test_a_nic_that_runs_is_what_it_was_made_as",
        "tests/core/test_nics.py::test_a_definition_that_goes_takes_nothing_with_it",
        "tests/scenarios/test_nics.py::test_a_definition_that_goes_before_its_pod",
    ),
    "22": (
        "tests/core/test_nics.py::test_a_full_subnet_stops_its_own_nic_only",
        "tests/core/test_pod.py::test_a_promise_that_nothing_comes_of_is_withdrawn",
    ),
    "23": (
        "tests/core/test_laws.py::test_a_promise_is_the_first_effect_of_a_grant",
        "tests/scenarios/test_reservations.py::test_everything_may_be_deleted_in_any_order",
    ),
    "24": (
        "tests/core/test_namespace.py::test_a_subnet_that_is_gone_goes",
        "tests/core/test_laws.py::test_a_restart_at_rest_writes_nothing",
        "tests/scenarios/test_reasons.py::test_looking_at_everything_again_writes_nothing",
    ),
    "25": (
        "tests/core/test_naming.py::test_an_ordinal_is_the_number_behind_the_sets_name",
        "tests/core/test_retention.py::test_an_ordinal_is_in_or_out",
        "tests/scenarios/test_statefulsets.py::test_scaled_to_one_and_back_nothing_stale_is_left",
        "tests/scenarios/test_statefulsets.py::test_ordinals_may_begin_elsewhere",
    ),
    "26": ("tests/scenarios/test_statefulsets.py::test_a_pod_that_is_made_anew_has_the_address_that_it_had",),
    "27": (
        "tests/core/test_realise.py::test_an_ip_says_from_the_start_for_which_owner_it_was_made",
        "tests/scenarios/test_statefulsets.py::test_a_pod_that_is_made_anew_has_the_address_that_it_had",
        "tests/scenarios/test_statefulsets.py::test_a_deleted_stateful_set_leaves_nothing",
    ),
    "28": (
        "tests/scenarios/test_statefulsets.py::test_a_pod_that_is_made_anew_has_the_address_that_it_had",
        "tests/core/test_realise.py::test_a_port_that_differs_is_put_right_in_place",
        "tests/sim/test_sim.py::test_every_universe_keeps_the_promises",
    ),
    "29": (
        "tests/core/test_nics.py::test_what_the_pod_lost_is_put_back_for_each_nic",
        "tests/core/test_pod.py::test_a_pod_of_another_stateful_set_of_that_name_gets_a_fresh_address",
        "tests/core/test_pod.py::test_what_a_running_pods_annotations_lost_is_put_back",
        "tests/core/test_records.py::test_no_text_is_too_odd_to_be_read",
        "tests/core/test_retention.py::test_what_is_not_known_never_frees",
        "tests/reconcilers/test_workloads.py::test_a_stateful_set_is_known_as_far_as_it_was_read",
    ),
    "30": (
        "tests/scenarios/test_statefulsets.py::test_scaled_to_one_and_back_nothing_stale_is_left",
        "tests/scenarios/test_vms.py::test_a_vm_that_is_deleted_while_it_runs_keeps_its_port_until_its_pod_is_gone",
    ),
    "31": (
        "tests/scenarios/test_crash.py::test_kill_9_in_the_middle_of_a_thousand_of_each_loses_and_doubles_nothing",
        "tests/scenarios/test_statefulsets.py::test_a_pod_that_is_made_anew_has_the_address_that_it_had",
    ),
    "32": (
        "tests/core/test_nics.py::test_what_the_pod_lost_is_put_back_for_each_nic",
        "tests/core/test_laws.py::test_a_restart_at_rest_writes_nothing",
    ),
    "33": (
        "tests/core/test_laws.py::test_no_view_makes_us_touch_what_is_foreign",
        "tests/core/test_pod.py::test_somebody_elses_object_of_that_name_is_said",
        "tests/core/test_realise.py::test_an_ip_that_is_not_the_pods_to_write_stays_as_it_is",
        "tests/core/test_records.py::test_an_explicit_address_under_somebody_elses_finalizer_is_occupied",
        "tests/core/test_reservation.py::test_what_is_not_ours_is_never_written",
    ),
    "34": (
        "tests/core/test_realise.py::test_an_ordinary_ip_is_never_labelled_reserved",
        "tests/core/test_reservation.py::test_an_ordinary_ip_whose_label_vanished_stays_one",
    ),
    "35": (
        "tests/scenarios/test_reservations.py::test_nobody_else_gets_a_reserved_address_by_asking",
        "tests/scenarios/test_crash.py::test_what_happens_while_it_is_down_is_found_at_start",
        "tests/sim/test_sim.py::test_every_universe_keeps_the_promises",
    ),
    "36": ("tests/core/test_reservation.py::test_a_conflict_names_the_present_owner_and_waits_for_it",),
    "37": (
        "tests/scenarios/test_reservations.py::test_a_reservation_is_for_one_namespace_by_its_very_name",
        "tests/scenarios/test_reservations.py::test_a_stateful_sets_pod_uses_a_reservation_of_its_kind",
    ),
    "38": (
        "tests/scenarios/test_document.py::test_the_vm_uses_its_address_whatever_its_pod_is_called",
        "tests/core/test_naming.py::test_a_pod_is_owned_by_itself_and_a_vms_pod_by_the_vm",
    ),
    "39": (
        "tests/core/test_nics.py::test_a_definition_that_goes_takes_nothing_with_it",
        "tests/scenarios/test_nics.py::test_everything_ends_in_whatever_order_it_is_deleted",
        "tests/scenarios/test_reservations.py::test_everything_may_be_deleted_in_any_order",
    ),
    "40": (
        "tests/scenarios/test_subnets.py::test_a_subnet_stays_while_it_is_used_and_says_by_whom",
        "tests/scenarios/test_reservations.py::test_everything_may_be_deleted_in_any_order",
    ),
    "41": (
        "tests/core/test_subnet.py::test_a_malformed_subnet_can_be_deleted",
        "tests/core/test_laws.py::test_every_view_has_a_decision_and_always_the_same",
        "tests/scenarios/test_reasons.py::test_a_thousand_malformed_objects_at_start_hold_up_nobody",
    ),
    "42": (
        "tests/core/test_pod.py::test_a_terminating_ip_of_that_name_is_waited_for",
        "tests/core/test_realise.py::test_an_ip_that_is_not_the_pods_to_write_stays_as_it_is",
    ),
    "43": (
        "tests/core/test_subnet.py::test_the_numbers_come_from_one_snapshot",
        "tests/reconcilers/test_neighbours.py::test_other_owners_count_as_used",
        "tests/reconcilers/test_rebuild.py::test_the_ledger_after_a_restart_is_the_ledger_before_it",
        "tests/scenarios/test_neighbours.py::test_the_address_of_a_vip_is_nobody_elses_also_after_a_restart",
    ),
    "44": ("tests/machines/test_ledger_model.py",),
    "45": ("tests/core/test_subnet.py::test_any_subnet_has_a_layout_or_a_reason",),
    "46": (
        "one event loop and no threads: the ledger has one owner, and no await stands between a view and its decision",
    ),
    "47": ("tests/machines/test_ledger.py::test_as_many_releases_as_allocations_give_the_full_pool_back",),
    "48": (
        "tests/machines/test_ledger.py::test_macs_are_unique_over_all_subnets",
        "tests/scenarios/test_reservations.py::test_a_mac_may_be_asked_for_with_and_without_an_address",
    ),
    "49": (
        "tests/core/test_placement.py::test_a_named_address_picks_the_subnet_that_it_lies_in",
        "tests/machines/test_ledger.py::test_excluded_addresses_are_neither_used_nor_available",
    ),
    "50": (
        "tests/core/test_naming.py::test_labels_are_always_acceptable_and_never_hide_the_decision",
        "tests/core/test_naming.py::test_a_name_has_at_most_253_characters",
        "tests/scenarios/test_reasons.py::test_the_reason_is_reached",
        "tests/scenarios/reasons_of_pools.py::_misnamed_set",
    ),
    "50a": ("tests/core/test_subnet.py::test_a_gateway_at_the_edge_of_the_cidr_is_added_once",),
    "51": (
        "tests/core/test_pod.py::test_a_port_of_a_former_network_goes_while_the_pod_lives",
        "tests/scenarios/test_statefulsets.py::test_another_subnet_in_the_template_frees_the_old_address",
    ),
    "52": (
        "tests/core/test_pod.py::test_a_new_pod_of_an_old_name_gets_a_fresh_address",
        "tests/core/test_realise.py::test_a_port_has_kube_ovns_columns_and_the_pods_uid",
        "tests/core/test_realise.py::test_a_port_that_differs_is_put_right_in_place",
    ),
    "53": (
        "tests/contract/test_northbound.py::a_port_is_dropped_from_the_switch_that_really_holds_it",
        "tests/scenarios/test_subnets.py::test_a_switch_torn_out_of_ovn_is_put_back_with_its_ports",
    ),
    "54": (
        "tests/core/test_laws.py::test_no_view_makes_us_touch_what_is_foreign",
        "tests/core/test_pod.py::test_a_foreign_port_of_that_name_is_in_the_way",
        "tests/core/test_reservation.py::test_a_port_of_another_system_stays",
        "tests/core/test_subnet.py::test_a_switch_of_another_system_is_left_alone",
    ),
    "55": (
        "tests/reconcilers/test_sweeper.py",
        "tests/core/test_sweep.py",
        "tests/sim/test_sim.py::test_every_universe_keeps_the_promises",
    ),
    "56": (
        "tests/reconcilers/test_survey.py",
        "tests/core/test_networks.py::test_a_nic_that_has_its_address_keeps_its_name",
        "tests/sim/test_sim.py::test_every_universe_keeps_the_promises",
    ),
    "57": ("tests/scenarios/test_vms.py::test_a_live_migration_shares_the_port_and_tells_ovn_where_it_may_be",),
    "58": (
        "tests/core/test_pod.py::test_a_sibling_that_wants_something_else_waits_and_is_told",
        "tests/reconcilers/test_workloads.py::test_a_launcher_is_its_vms_or_a_plain_pod",
        "tests/scenarios/test_vms.py::test_without_keep_vm_ip_each_launcher_is_a_plain_pod",
    ),
    "59": (
        "tests/core/test_realise.py::test_the_options_that_are_ours_are_put_beside_those_of_others",
        "tests/core/test_release.py::test_a_stopped_vms_port_has_no_options_of_a_migration_left",
        "tests/reconcilers/test_workloads.py::test_the_options_of_a_moving_vms_port_follow_its_migration",
        "tests/scenarios/test_vms.py::test_a_live_migration_shares_the_port_and_tells_ovn_where_it_may_be",
    ),
    "60": ("tests/core/test_laws.py::test_a_crash_anywhere_is_resumed",),
    "61": (
        "tests/load/test_bench_smoke.py::test_a_start_is_timed_to_readiness_and_to_the_first_new_addresses",
        "tests/core/test_laws.py::test_a_restart_at_rest_writes_nothing",
    ),
    "62": (
        "tests/process/test_serving.py::test_a_scrape_costs_the_same_with_ten_and_with_ten_thousand_ips",
        "tests/load/test_bench_smoke.py::test_a_start_is_timed_to_readiness_and_to_the_first_new_addresses",
    ),
    "63": (
        "tests/load/test_bench_smoke.py::test_many_pods_share_a_northbound_transaction",
        "tests/wire/test_raft.py::test_work_goes_on_when_the_leader_dies_and_nothing_answered_is_lost",
    ),
    "64": (
        "tests/wire/test_raft.py::test_work_goes_on_when_the_leader_dies_and_nothing_answered_is_lost",
        "tests/wire/test_northbound.py::test_a_silent_server_is_noticed_without_a_commit",
        "tests/wire/test_northbound.py::test_a_killed_server_comes_back_with_whole_rows",
    ),
    "65": (
        "tests/core/test_placement.py::test_of_a_namespaces_pools_the_first_with_room_in_a_subnet_of_the_pod_is_taken",
        "tests/reconcilers/test_shell.py::test_an_object_that_waits_is_told_once",
        "tests/scenarios/test_pods.py::test_of_a_namespaces_subnets_the_first_with_room_is_taken",
    ),
    "66": (
        "tests/core/test_pod.py::test_somebody_elses_object_of_that_name_is_said",
        "tests/sim/test_sim.py::test_every_universe_keeps_the_promises",
        "tests/scenarios/test_crash.py::test_a_server_that_restarts_in_the_middle_costs_nothing",
    ),
    "67": (
        "tests/core/test_pod.py::test_a_new_pod_takes_its_former_address_when_nothing_else_is_left",
        "tests/scenarios/test_chaos.py::test_two_statefulsets_in_one_tight_subnet_under_kill_9_every_20_seconds",
        "tests/scenarios/test_pods.py::test_a_list_of_addresses_gives_each_pod_the_first_free_one",
    ),
}
