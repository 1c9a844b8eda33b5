# Each target makes the environment first, when it is not there. `make help` lists them.
PYTHON ?= python3
CONSTRAINTS ?= constraints.txt
RUN = .venv/bin/python

help:
	@echo "make lab        environment, then JupyterLab on the course (ARGS=--no-browser for a server)"
	@echo "make quick      the inner loop, in less than a minute: lint, types, export, fast tests, changed workshop notebooks"
	@echo "make test       environment, then everything that must hold: lint, types, export, outputs, lessons, offline, pytest, site"
	@echo "                ARGS='lint types'                     these steps"
	@echo "                ARGS='lessons 04 17'                  these notebooks (outputs and offline take them too); what passed as it stands is skipped"
	@echo "                ARGS='pytest test_cli -k size'        these files of tests/; from the first option on, pytest's own words"
	@echo "make processes  a hundred times two processes train and leave, on a loaded machine (ARGS='--runs 10 --minutes 5')"
	@echo "make docs       the site, into _docs/"
	@echo "make outputs    run the lessons and store what they show (ARGS='03 04' for some, ARGS=--changed for the changed)"
	@echo "make quality    trains the long runs that the lessons quote: disentanglement, quadrants, codes, samples, anomalies (hours; goes on where it stopped)"
	@echo "make bench      installs the peers, times this course beside them, writes bench/results/ (ARGS=--quick: shows that it runs)"
	@echo "make live       trains the small models that run in the pages, into nbs/assets/live/ (ARGS='draw class' for some; minutes)"
	@echo "make portable   every lesson and test under other instruction sets and threads (hours; goes on where it stopped; ARGS='avx2 03 test_vq' for some)"
	@echo "make gpu        everything that needs a GPU, in 9 minutes: tests, notebooks, bench, 300,000 steps on dSprites (ARGS='--minutes 20 --parts bench long' for some)"
	@echo "make clean      remove what was built (the environment stays; rm -r .venv removes it)"

.venv/installed: settings.ini setup.py $(CONSTRAINTS)
	test -x $(RUN) || $(PYTHON) -m venv .venv
	$(RUN) -m pip install --quiet --upgrade pip
	$(RUN) -m pip install --quiet --constraint $(CONSTRAINTS) --editable ".[dev]"
	touch $@

lab: .venv/installed
	-.venv/bin/jupyter trust --log-level=WARN nbs/index.ipynb nbs/[01]*.ipynb
	.venv/bin/jupyter lab --ServerApp.root_dir=nbs --LabApp.default_url=/lab/tree/index.ipynb $(ARGS)

test: .venv/bench
	$(RUN) tools/check.py $(ARGS)

quick: .venv/bench
	$(RUN) tools/check.py quick

processes: .venv/installed
	$(RUN) tools/processes.py $(ARGS)

docs: .venv/installed
	$(RUN) tools/site.py $(ARGS)

outputs: .venv/installed
	$(RUN) tools/lessons.py $(ARGS)
	.venv/bin/nbdev_clean

.venv/bench: .venv/installed
	$(RUN) -m pip install --quiet --constraint $(CONSTRAINTS) --editable ".[dev,bench]"
	touch $@

bench: .venv/bench
	$(RUN) bench/speed.py $(ARGS)
	$(RUN) bench/time_to_quality.py $(ARGS)

quality: .venv/bench
	$(RUN) bench/disentanglement.py $(ARGS)
	$(RUN) bench/cvae_labels.py $(ARGS)
	$(RUN) bench/cvae_quadrants.py $(ARGS)
	$(RUN) bench/vq.py $(ARGS)
	$(RUN) bench/generation.py $(ARGS)
	$(RUN) bench/anomaly.py $(ARGS)

live: .venv/installed
	$(RUN) tools/live.py $(ARGS)

portable: .venv/bench
	$(RUN) tools/portable.py $(ARGS)

gpu: .venv/bench
	$(RUN) tools/gpu_session.py $(ARGS)

clean:
	rm -rf _docs _proc build dist *.egg-info .pytest_cache .ruff_cache .cache .hypothesis
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +

.PHONY: help lab quick test live portable processes docs outputs bench quality gpu clean
