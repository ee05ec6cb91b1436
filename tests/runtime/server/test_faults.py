"""The fault table, row by row: where each is proved. Tests without a folder lie beside this one.

 1  test_faults_reach: what_is_no_data_url_is_refused, addresses_in_a_data_url_are_no_images,
    no_other_field_reaches_anything, the_kernel_saw_nothing
 2  test_faults_reach: what_is_no_data_url_is_refused, no_other_field_reaches_anything, the_kernel_saw_nothing
 3  test_faults_media: a_broken_data_url_is_refused, another_type_is_refused, the_bytes_decide_and_not_the_type
 4  test_faults_wire: a_body_that_is_announced_as_too_large_is_never_read,
    chunks_beyond_the_limit_are_refused_when_it_is_passed, a_body_at_the_limit_is_read
 5  test_faults_media: a_bomb_is_never_decoded
 6  test_faults_media: a_damaged_image_is_refused
 7  test_faults_media: no_other_format_is_opened
 8  test_faults_media: odd_images_are_answered, the_smallest_image_is_answered,
    a_strip_is_refused_in_clear_words
 9  test_faults_media: too_many_images_are_refused_before_decoding,
    too_many_pixels_together_are_refused_before_decoding
10  test_faults_media: a_video_is_refused, a_video_as_a_image_is_refused
11  test_faults_parameters: control_tokens_in_a_text_are_letters, control_tokens_elsewhere_are_letters_too
12  test_faults_parameters: a_prompt_beyond_the_context_is_refused, images_beyond_the_context_are_refused,
    a_megabyte_of_text_keeps_nobody_waiting
13  test_faults_parameters: a_number_out_of_its_bounds_is_refused, what_is_not_supported_is_refused_by_name
14  test_faults_parameters: a_number_out_of_its_bounds_is_refused, numbers_that_are_not_finite_are_refused
15  test_faults_parameters: a_number_out_of_its_bounds_is_refused, what_is_not_supported_is_refused_by_name,
    a_million_entries_are_refused_before_they_are_read
16  test_faults_parameters: a_number_out_of_its_bounds_is_refused, a_million_entries_are_refused_before_they_are_read
17  test_faults_parameters: a_schema_that_cannot_be_followed_is_refused_in_time,
    a_schema_deeper_than_json_may_be_is_refused, a_greedy_pattern_costs_no_more_than_its_time
18  test_faults_parameters: what_is_not_supported_is_refused_by_name
19  test_faults_parameters: json_that_holds_a_surprise_is_refused
20  test_faults_parameters: a_wrong_shape_is_refused_where_it_is_wrong, json_that_is_no_object_is_refused
21  test_faults_parameters: another_model_is_not_found, another_model_is_not_found_by_its_path
22  test_faults_wire: a_host_that_is_not_ours_is_refused_before_routing, a_request_without_one_host_is_refused
23  test_faults_wire: a_foreign_page_may_ask_nothing, types_that_need_no_preflight_are_refused
24  test_faults_wire: without_the_key_nobody_gets_in, with_the_key_everybody_gets_in;
    test_keys: every_key_is_compared_for_every_guess; test_systemd: row_24_a_key_that_systemd_keeps
25  test_faults_wire: a_head_that_is_too_large_or_crooked_is_refused;
    test_protocol: a_head_is_bounded_however_it_arrives, malformed_requests_get_400_and_are_cut
26  test_faults_wire: whoever_is_slow_is_closed_and_others_are_served;
    test_protocol: bytes_that_trickle_in_do_not_put_off_the_deadline, idle_after_an_answer,
    200_idle_connections_are_closed_and_others_served_meanwhile,
    silent_connections_do_not_keep_others_out
27  test_serving: a_client_that_leaves_frees_its_place, token_counts_of_those_who_left_take_no_place;
    test_server_life: a_client_that_leaves_before_the_first_token
28  test_faults_wire: whoever_is_slow_is_closed_and_others_are_served;
    test_protocol: a_client_that_reads_nothing_is_cut_off, a_client_that_reads_slowly_is_not
29  test_serving: a_full_queue_says_when_to_come_again;
    test_clients: openais_client_comes_again_when_there_is_room
30  test_serving: a_request_over_its_deadline; test_conformance: an_error_in_a_stream_fits_openai
31  test_serving: stopping_lets_running_answers_end, stopping_cancels_what_takes_too_long,
    a_second_signal_ends_at_once; test_systemd: row_31_a_stop_lets_answers_end;
    test_server_life: a_stop_while_it_loads
32  test_systemd: row_32_killed_under_load
33  test_systemd: row_33_an_event_loop_that_hangs;
    test_server_life: a_device_that_hangs, a_device_that_fails, an_event_loop_that_is_blocked
34  test_systemd: row_34_too_much_memory
35  test_constant_memory; test_faults_wire: what_is_refused_again_and_again_leaves_nothing
36  runtime/test_cli: damaged_or_foreign_model_is_refused, verify_reads_every_byte;
    runtime/test_manifest: hashes_are_checked_once_and_after_a_change, garbage_is_told;
    test_server_life: a_model_that_cannot_be_loaded_ends_the_process
37  runtime/test_blobs: a_damaged_blob_is_compiled_anew, other_weights_of_the_same_size_are_noticed,
    a_folder_that_cannot_be_written_costs_nothing_but_time;
    runtime/test_store: a_damaged_file_is_removed_and_never_used, another_model_s_files_are_not_ours,
    full_disk_and_read_only_folder, the_folder_stays_within_its_limit
38  export/test_folder: full_disk_is_one_sentence, disk_fills_while_openvino_writes, nothing_is_left_after_a_fault
39  export/test_folder: an_old_model_comes_back_after_a_power_cut, what_a_kill_left_goes_with_the_next_try;
    runtime/test_store: killed_in_the_middle_of_a_write, two_processes_share_the_folder
40  nothing yet
41  test_server_life: without_a_gpu_the_processor_answers_and_says_so;
    test_systemd: row_42_a_read_only_root_and_no_home
42  test_systemd: row_42_a_read_only_root_and_no_home, row_42_no_folder_for_temporary_files;
    test_server_life: a_clock_that_jumps, no_file_can_be_written; runtime/test_cli: read_only_home_still_answers
43  test_server_life: a_throttled_processor_is_no_hang
44  test_faults_wire: paths_cannot_forge_the_log, prompts_cannot_forge_the_log, fields_of_a_form_cannot_forge_the_log;
    test_serving: log_lines_cannot_be_forged

Not provable yet: rows 38 to 40 speak of `vlrun pull` too, which does not exist; while nothing fetches a model, no hub
can be out of reach. Not provable here: render groups and drivers of row 41 need a GPU; that the processor answers
instead is proved with a device that is not there.
"""

from __future__ import annotations

import re

import pytest

from tests.paths import ROOT

TESTS = ROOT / "tests"
ROW = re.compile(r"^ ?(\d+)  (.+?)(?=\n ?\d+  |\n\n)", re.DOTALL | re.MULTILINE)


def rows() -> dict[int, str]:
    return {int(number): " ".join(text.split()) for number, text in ROW.findall(__doc__ or "")}


def test_every_row_is_there() -> None:
    """Guards against a row that was lost."""
    assert list(rows()) == list(range(1, 45))


@pytest.mark.parametrize("number", rows())
def test_the_tests_of_a_row_are_there(number: int) -> None:
    """Guards the table against a test that was renamed or thrown away."""
    sources = "".join(path.read_text() for path in TESTS.rglob("test_*.py"))
    for place in rows()[number].split("; "):
        _, _, names = place.partition(": ")
        missing = [name for name in names.split(", ") if name and f"def test_{name}(" not in sources]
        assert not missing
