# Short names for `python3 run.py ...`, which also works where there is no make.
.PHONY: demo test check setup lock

demo test check setup:
	python3 run.py $@

# Needs uv. One resolution serves every platform; the later lock keeps the versions of the earlier one. What asks for
# torch does not bring it in: its build cannot be locked.
UV = uv pip compile --quiet --universal --generate-hashes --python-version 3.11 \
     --no-header --no-emit-index-url --no-emit-find-links --excludes requirements/apart.txt
lock:
	$(UV) pyproject.toml --extra all requirements/demo.in -o requirements/demo.txt
	$(UV) pyproject.toml --extra all --extra report requirements/test.in -c requirements/demo.txt -o requirements/test.txt
	$(UV) --no-deps requirements/data.in -o requirements/data.txt
	$(subst --universal ,,$(UV)) requirements/bench.in -o requirements/bench.txt
