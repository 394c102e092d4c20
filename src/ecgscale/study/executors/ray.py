"""Work in tasks of Ray: on a cluster that is there, or on one that is started on this machine.

Ray starts a task again on another node where its process or node is gone; the run goes on from its saved state.
Source: https://docs.ray.io/en/latest/ray-core/fault_tolerance/tasks.html
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import Field

from ecgscale.study.executors import ExecutorSpec, Lost, Place
from ecgscale.study.executors._remote import Remote, remote_job
from ecgscale.study.jobs import Outcome, Work
from ecgscale.study.study import StudyError


class RaySpec(ExecutorSpec):
    """Tasks of Ray; needs the extra `ray`, and ecgscale and the lab at the same path on every node."""

    address: str | None = None  # of a cluster, as "auto" or "host:6379"; None starts one on this machine
    cpus: float | None = Field(None, gt=0)  # of a run; the study's threads when None
    gpus: float = Field(0.0, ge=0)  # of a run; 0.25: four runs side by side on a GPU
    memory_gb: float | None = Field(None, gt=0)  # of a run, for placement
    tasks: int = Field(256, ge=1)  # given to Ray at once, at most
    retries: int = Field(3, ge=0)  # of a task whose process or node is gone

    def open(self, place: Place) -> RayTasks:
        """Return the executor; it connects when work is given to it."""
        try:
            import ray
        except ImportError:
            raise StudyError("--on ray needs Ray: pip install 'ecgscale[ray]'") from None
        return RayTasks(self, place, ray)


class RayTasks(Remote[Any]):
    """Tasks of one session."""

    def __init__(self, spec: RaySpec, place: Place, ray: Any) -> None:
        super().__init__(place, spec.gpus, spec.tasks, tries=1)  # Ray itself tries again
        self.about = f"tasks of Ray on {self.device}"
        self._spec, self._ray = spec, ray
        self._task: Any = None

    def _connect(self) -> Any:
        """Return the task, once a cluster is there."""
        ray, spec = self._ray, self._spec
        fresh = {} if spec.address else {"include_dashboard": False}
        try:
            ray.init(spec.address or "local", log_to_driver=False, logging_level="error", **fresh)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise StudyError(f"--option address={spec.address}: no cluster of Ray answers there: {error}") from None
        memory = {} if spec.memory_gb is None else {"memory": int(spec.memory_gb * 2**30)}
        cpus = spec.cpus or self.place.threads
        return ray.remote(num_cpus=cpus, num_gpus=spec.gpus, max_retries=spec.retries, **memory)(remote_job)

    def submit(self, works: Sequence[Work]) -> list[Any]:
        """Give tasks to Ray."""
        self._task = self._task or self._connect()
        return [self._task.options(name=todo.name).remote(*self.arguments(todo)) for todo in works]

    def look(self, seconds: float) -> dict[Work, Outcome | Lost]:
        """Wait for one, and take all that ended."""
        references = list(self.running.values())
        self._ray.wait(references, num_returns=1, timeout=seconds)
        over = set(self._ray.wait(references, num_returns=len(references), timeout=0)[0])
        return {todo: self._result(reference) for todo, reference in self.running.items() if reference in over}

    def _result(self, reference: Any) -> Outcome | Lost:
        try:
            found: Outcome = self._ray.get(reference)
            return found
        except self._ray.exceptions.TaskCancelledError:
            return Outcome(paused=True)
        except self._ray.exceptions.RayError as error:
            first = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
            return Lost(
                f"its task was lost {self._spec.retries + 1} times: {type(error).__name__}: {first.strip()[:300]}"
            )

    def withdraw(self, todo: Work) -> None:
        """Cancel the task."""
        self._ray.cancel(self.running[todo])

    def close(self) -> None:
        """Disconnect; a cluster that was started here ends."""
        super().close()
        if self._task is not None:
            self._ray.shutdown()
