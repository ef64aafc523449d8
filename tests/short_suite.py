"""The short suite, which `pytest` runs where neither `--full` nor a file is given.

It takes less than 300 seconds of one processor, and uses every public name. docs/mutations.md says
which share of a sample of the mutants of layers/ and losses/ it kills. What it leaves out was
chosen by what most tests take and show:

- files and tests that compile, start processes or train for long. Of each kind the cheapest stays;
- rows of a test that has many: those of a layer's or a loss's first configuration stay, or, where
  the rows are of neither, a few. The tables that prove the gradients stay whole.

A new test that takes more than half a second is marked `@pytest.mark.full`.
"""

# Rows that stay of a test that has more, unless its rows are of layers or losses.
ROWS = 16

# Tests whose every row stays.
WHOLE = {
    "combine/test_combinator_loops.py": {"test_gradients_are_proven"},
    "combine/test_refused_combinators.py": {"test_what_does_not_fit_is_refused"},
    "layers/test_activations.py": {"test_the_slope_at_a_kink_and_beside_it"},
    "plots/test_plots.py": {"test_what_cannot_be_drawn_is_refused"},
    "repository/test_doctests.py": {"test_docstring_examples_run"},  # which use every public name
    "layers/test_layers.py": {
        *("test_gradients_are_proven", "test_agrees_with_torch_in_float32"),
        "test_agrees_with_torch_in_float64",
    },
    "library/test_devices.py": {"test_a_step", "test_an_optimizer"},
    "losses/test_edges.py": {"test_kinks_have_the_slope_of_the_page"},
    "losses/test_table.py": {"test_agrees_with_torch", "test_gradient_is_proven"},
}

COMPILING = {
    "compiler/test_compile_aliases.py",
    "compiler/test_compile_failures.py",
    "compiler/test_lowering.py",
    "compiler/test_lstm_loops.py",
    "compiler/test_on_disk.py",
    "compiler/test_pooled_convolution.py",
    "compiler/test_private_parts.py",
    "compiler/test_product_updates.py",
    "compiler/test_small_products.py",
    "repository/test_fuzz.py",
}
PROCESSES = {
    "checkpoint/test_checkpoint_memory.py",
    "distributed/test_checkpoints.py",
    "distributed/test_pipeline_killed.py",
    "distributed/test_pipeline_processes.py",
    "repository/test_pipeline_example.py",
    "repository/test_places.py",
    "runtime/test_memory.py",
    "grading/test_grade_graders.py",
}
PROGRAMS = {
    "interop/test_resnets.py",
    "repository/test_examples_research.py",
    "repository/test_notebooks.py",
    "repository/test_per_example_mnist.py",
    "repository/test_rules_example.py",
}
# Beside Hugging Face's library, where it is installed.
PRETRAINED = {"pretrained/test_families.py", "pretrained/test_smollm2.py"}
FILES = COMPILING | PROCESSES | PROGRAMS | PRETRAINED

# Tests of the other files, each with the rows that stay; () is none.
TESTS = {
    "compiler/test_onnx.py": {
        "test_steps_in_onnxruntime_are_eager_steps": ("regression",),
        "test_every_optimizers_steps": ("rmsprop",),
        "test_every_losss_gradient": ("huber",),
        "test_every_layers_gradients": ("conv_transpose2d(4, 3)", "max_pool2d(2)", "group_norm(2)"),
        "test_a_fixed_batch_needs_no_common_axis": (),
        "test_a_step_has_no_node_twice_and_none_that_nothing_reads": (),
        "test_a_column_major_weight_is_trained_alike": (),
        "test_the_gradient_of_ctc": (),
        "test_only_windows_that_are_apart_are_unpooled": ("options0", "options2"),
    },
    "compiler/test_linear_scan.py": {
        "test_a_step_of_any_length_is_one_operation_for_each_scan": (),
    },
    "compiler/test_scan_loops.py": {
        "test_a_loop_gives_the_same": ("own cell",),
        "test_a_step_has_as_many_operations_for_a_sequence_of_any_length": (),
    },
    "compiler/test_flash_attention.py": {
        "test_a_traced_step_has_the_kernel_and_computes_what_the_eager_step_does": ("window",),
    },
    "repository/test_finetune_example.py": {
        "test_a_run_that_was_stopped_goes_on_from_its_checkpoint": (),
    },
    "repository/test_optimizers_benchmark.py": {"test_a_finished_run_is_not_run_again": ()},
    "repository/test_benchmarks.py": {
        "test_processes_take_turns": (),
        "test_growth_is_measured_at_each_size": (),
        "test_losses_of_ours_and_torch_agree": ("mlp-small", "lenet-8-sgd", "char-lstm-sgd"),
        "test_losses_of_other_libraries_agree": (),
    },
    "compiler/test_compile.py": {
        "test_five_compiled_steps_are_five_eager_steps": ("momentum",),
        "test_compiled_steps_are_eager_steps": ("single",),
        "test_a_compiled_graph_is_found_on_disk": (),
        "test_a_layer_that_draws_from_torchs_generator_draws_the_same": (),
        "test_errors_are_the_eager_steps": (),
        "test_an_embedded_index_out_of_range_is_refused": (),
    },
    "compiler/test_compile_function.py": {
        "test_a_gans_step_of_two_networks_is_the_same_compiled": (),
        "test_a_compiled_function_leaves_its_arguments_and_gives_the_same_again": (),
        "test_a_value_that_is_not_finite_is_the_functions_own_affair": (),
    },
    "compiler/test_compile_rewrites.py": {
        "test_onednn_is_called_from_compiled_code": (),
        "test_products_of_many_matrices": (),
        "test_pooling_in_loops_is_aten_s": (),
        "test_other_pooling_is_left_to_aten": ("overlapping", "few channels"),
        "test_a_step_of_few_numbers_is_small": ("[6-3276", "[6-3277", "[110"),
        "test_pooling_side_by_side_becomes_loops": (),
        "test_an_lstm_is_one_operation_here_and_cells_elsewhere": (),
    },
    "compiler/test_bfloat16.py": {"test_products_of_a_compiled_step": ()},
    "checkpoint/test_directory.py": {"test_a_flipped_bit_in_a_score_does_not_remove_the_best": ()},
    "curvature/test_influence.py": {
        "test_it_predicts_the_test_loss_after_training_without_each_example": (),
    },
    "curvature/test_kfac.py": {
        "test_it_needs_fewer_steps_than_sgd_where_inputs_are_badly_scaled": (),
    },
    "distributed/test_data_parallel.py": {
        "test_any_number_of_processes_gives_the_same_bits": ("run_few",),
        "test_a_step_of_shards_is_the_step_of_the_whole_batch": (),
        "test_synchronised_statistics_are_those_of_the_whole_batch": (),
        "test_the_parameters_of_a_frozen_backbone_are_not_sent": (),
        "test_fit_divides_arrays_and_shows_one_history": (),
        "test_a_compiled_pass_computes_the_same_with_any_number_of_processes": (),
        "test_what_cannot_be_compiled_is_refused": (),
        "test_a_loss_counts_as_in_the_whole_batch": (),
        "test_a_weighted_loss_reports_its_parts_over_the_whole_batch": (),
        "test_wrong_use_is_refused_by_the_same_error_in_all_processes": (),
        "test_a_group_that_is_gone_is_refused": (),
    },
    "walk/test_deep.py": {"test_summary_and_trace": (), "test_a_step": ()},
    "repository/test_docs.py": {
        "test_a_picture_is_drawn_the_same_each_time_and_leaves_torch_as_it_was": (),
    },
    "repository/test_docs_formulas.py": {"test_katex_takes_all_that_the_docstrings_hold": ()},
    "training/test_donation.py": {
        "test_a_product_with_a_leaf_of_the_state_is_made_before_that_is_written_over": (),
        "test_the_numbers_are_those_of_the_pure_step": ("False",),
        "test_a_weight_stays_where_it_is_and_the_old_state_is_empty": ("eager",),
        "test_a_step_that_fails_has_written_nothing": ("eager",),
        "test_column_major_weights_give_the_same_numbers_and_stay_so": ("eager",),
    },
    "estimators/test_estimators.py": {"test_partial_fit_learns_from_parts_that_lack_classes": ()},
    "repository/test_examples.py": {
        "test_breast_cancer_reaches_the_notebooks_accuracy": (),
        "test_breast_cancer_follows_its_key_and_init": (),
        "test_breast_cancer_runs_as_a_script_and_draws": (),
        "test_matplotlib_is_imported_only_to_draw": (),
        "test_the_picture_says_what_is_drawn_and_counts_epochs": (),
        "test_breast_cancer_prints_its_lines_while_it_trains": (),
        "test_mnist_learns_in_an_epoch": (),
        "test_mnist_goes_on_from_its_newest_checkpoint": (),
    },
    "repository/test_examples_text.py": {
        "test_the_first_losses_are_those_of_autograd": (),
        "test_a_short_run_prints_bits_beside_the_bigram_models_and_a_sample": (),
    },
    "compiler/test_export.py": {
        "test_three_steps_without_the_library_are_three_eager_steps": (),
        "test_the_tensors_of_a_batch_are_named": (),
    },
    "combine/test_fixed_point.py": {
        "test_a_compiled_step_raises_the_error_of_the_step_itself": (),
    },
    "combine/test_combinator_loops.py": {
        "test_a_compiled_step_gives_the_same": ("discrete",),
        "test_walks_have_the_bits_of_backward": (
            *("own cell", "ode: images", "rk4, continuous", "three blocks", "block"),
        ),
    },
    "grading/test_grade.py": {"test_where_a_process_cannot_be_copied_a_new_one_is_started": ()},
    "testing/test_check_everywhere.py": {
        "test_layers_are_right_on_kinks_and_of_any_size": ("[zeros",),
        "test_losses_are_right_on_kinks_and_of_any_size": ("-zeros]",),
        "test_layers_are_right_on_digits": ("serial", "batch_norm"),
    },
    "testing/test_check_optimizer.py": {
        "test_the_adjoint_is_the_updates_derivative": ("[sgd", "[adam(0.1, a", "[chain(clip"),
    },
    "grading/test_grade_assignment.py": {
        "test_a_blanked_file_earns_nothing_and_the_file_itself_everything": ("[elu", "[instance"),
        "test_a_teacher_makes_an_assignment_and_grades_a_file": (),
        "test_the_notebooks_are_valid": (),
    },
    "combine/test_in_dtype.py": {"test_small_steps_are_not_lost": ("False",)},
    "interop/test_gguf.py": {
        "test_every_tensor_is_what_the_library_makes_of_it": ("[F32", "[BF16", "[Q8_0", "[Q4_K"),
    },
    "interop/test_pretrained.py": {
        "test_what_is_loaded_is_what_was_saved": (
            *("bert-BertModel", "CLIPModel", "gpt2-GPT2LM", "llama-LlamaFor", "mamba-MambaFor"),
            *("mixtral-MixtralFor", "t5-T5For", "vit-ViTFor"),
        ),
        "test_a_language_model_decodes_token_by_token": ("gemma2", "llama", "mamba"),
    },
    "interop/test_training.py": {"test_twenty_steps_beside_torch": ()},
    "interop/test_to_torch.py": {"test_gradcheck": ("[dense", "lstm(3)0", "batch_norm(bias")},
    "interop/test_transformers.py": {
        "test_a_decoder": ("bias=False",),
        "test_an_encoder": ("bias=False",),
        "test_masks_of_an_encoder_are_those_that_the_module_says": ("both-True",),
        "test_names_are_torchs_and_like_is_not_needed": (),
        "test_both": (),
        "test_masks_of_both": (),
        "test_a_part_that_is_not_trained_is_frozen_and_the_other_is_trained_all_the_same": (),
    },
    "layers/test_normalisation.py": {"test_batch_norm_is_right_over_millions_of_rows": ()},
    "layers/test_shape.py": {
        "test_upsample_is_torchs_at_every_size": ("nearest-exact", "bilinear")
    },
    "library/test_derivatives.py": {
        "test_a_step_has_its_derivative_in_state_and_batch": ("adam",),
    },
    "compiler/test_on_disk_trust.py": {
        "test_a_folder_that_others_write_is_not_used": (),
        "test_a_folder_of_another_user_is_not_used": (),
        "test_a_note_leads_to_no_library_but_the_one_beside_it": (),
        "test_a_link_out_of_the_folder_is_not_followed": (),
        "test_what_others_write_is_not_loaded": (),
        "test_a_damaged_entry_counts_as_missing": (),
        "test_a_folder_that_cannot_be_written_costs_a_warning": (),
        "test_a_planted_library_does_not_run": (),
    },
    "library/test_pickle_steps.py": {
        "test_a_compiled_step_is_the_step_it_was_compiled_from_and_is_compiled_anew": (),
        "test_a_compiled_prediction_and_function_leave_their_graphs_behind": (),
        "test_another_process_takes_the_same_step": (),
    },
    "optim/test_lbfgs.py": {"test_takes_torchs_path": ("9}-rosenbrock", "30}-flat")},
    "optim/test_optimizers.py": {
        "test_state_is_tensors_that_trace": ("[adamw", "[rprop", "[soap", "[chain(clip"),
    },
    "per_example/test_clipped.py": {"test_a_compiled_step_takes_the_same": ()},
    "plots/test_plots.py": {"test_every_layer_of_a_deep_network_has_axes": ()},
    "compiler/test_prediction.py": {
        "test_predictions_are_the_eager_ones": (),
        "test_metrics_are_those_of_the_eager_layer": (),
        "test_a_prediction_is_found_on_disk": (),
    },
    "replay/test_replay.py": {"test_the_example_finds_its_fault_and_draws": ()},
    "training/test_resume.py": {
        "test_a_run_killed_twenty_times_ends_the_same": (),
        "test_a_run_stopped_within_an_epoch_goes_on_as_if_it_had_not": ("[adam]", "clipped"),
    },
    "rules/test_rules_laws.py": {
        "test_it_learns": (),
        "test_summary_and_map_layers_see_its_parts": ("uniform",),
        "test_fast_and_donated_steps_are_those_of_the_formulas": (
            *("[sgd(0.1)-fixed", "[sgd(0.1)-pepita", "0.9)-feedback", "0.9)-straight"),
        ),
        "test_the_graph_of_a_compiled_step_computes_the_step": (),
    },
    "combine/test_scan.py": {
        "test_each_further_step_costs_as_much_as_the_one_before": ("lstm-masked",),
    },
    "streams/test_logged.py": {
        "test_a_killed_run_leaves_whole_lines": (),
        "test_a_resumed_training_writes_the_log_of_one_that_was_not_stopped": (),
    },
    "testing/test_submissions.py": {
        "test_nine_of_ten_mistakes_have_a_name": (),
    },
    "inspect/test_summary.py": {
        "test_the_summary_of_every_layer_is_that_of_a_real_run": ("[dense", "[conv2d", "[lstm("),
    },
    "distributed/test_tensor_parallel.py": {
        "test_the_parts_together_are_what_one_process_computes": (),
        "test_what_all_processes_have_is_the_same_in_all_bit_for_bit": (),
        "test_what_cannot_be_divided_is_refused_by_the_same_error_in_all": (),
        "test_a_grid_of_data_and_tensor_parallel_processes_trains_as_one_process": (),
        "test_names_are_the_same_in_all_processes": (),
    },
    "training/test_train.py": {
        "test_200_steps_equal_torchs_autograd_and_sgd": ("logits", "averaged")
    },
    "library/test_typed_user.py": {"test_the_program_runs": ()},
}


def key_of(path):
    """Give the key of a file in the tables: its room and its name."""
    return f"{path.parent.name}/{path.name}"


def leaves_out(path):
    """Whether all of a file is left to `--full`."""
    return key_of(path) in FILES


def divided(items):
    """Divide the tests that were collected into those of the short suite and the others."""
    by_test = {}
    for item in items:
        by_test.setdefault((key_of(item.path), item.originalname), []).append(item)
    kept = {
        item
        for (file, name), rows in by_test.items()
        for item in _kept(file, name, rows)
        if not item.get_closest_marker("full")
    }
    return [item for item in items if item in kept], [item for item in items if item not in kept]


def _kept(file, name, rows):
    """Give the rows of a test that stay."""
    if file in FILES:
        return []
    if name in WHOLE.get(file, ()):
        return rows
    if (named := TESTS.get(file, {}).get(name)) is not None:
        return [row for row in rows if any(part in row.name for part in named)]
    if len(rows) <= ROWS:
        return rows
    about = [_layer_or_loss(row) for row in rows]
    first = {of: thing for of, thing in reversed(about) if thing is not None}
    of_first = [row for row, (of, thing) in zip(rows, about, strict=True) if first.get(of) is thing]
    if first:
        return of_first
    return [rows[i * (len(rows) - 1) // (ROWS - 1)] for i in range(ROWS)]


def _layer_or_loss(row):
    """Give the name of the constructor that a row is about, and the configuration."""
    for given in row.callspec.params.values() if hasattr(row, "callspec") else ():
        match given:
            case (
                object(layer=made, x=_)
                | object(loss=object(backward=_) as made)
                | (object(forward=_, backward=_) as made)
            ):
                return repr(made).partition("(")[0], given
            case object(name=name, prediction=_):
                return name, given
    return None, None
