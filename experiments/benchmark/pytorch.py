"""The benchmark's other side: the same step in plain PyTorch, in a process of its own.

    PYTHON -m experiments.benchmark.pytorch

reads one JSON object a line from its standard input and answers with one a line on its standard
output, until the input ends. It needs PyTorch and NumPy and no other package, so that
PYTHON can be any interpreter. While it waits for a line it does nothing.

    first      {"torch": "2.9.0", "threads": 2, "device": "cpu"}
    request    {"net": "lenet5", "fields": {}, "batch": 128, "input": [32, 32, 1], "classes": 10,
                "dtype": "float32", "variant": "contiguous", "task": "train", "seconds": 3.0}
               or {"task": "operation", "kind": "conv", "part": "layer", ...}: operation
    answer     {"images_per_second": 1234.5, "steps": 29, "seconds": 3.01, "warm_up": 0.4,
                "mib": 412.0}
               or {"error": "RuntimeError: ..."}

`Child` is this project's end of the pipe, `Children` holds two of them.
"""

import contextlib
import json
import os
import pathlib
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

from experiments.benchmark.meters import seconds_of, timed
from experiments.errors import UserError, reason

# Memory layouts of the images and the net; 'compile' puts torch.compile around either
VARIANTS = ('contiguous', 'channels_last', 'compile', 'compile channels_last')
_AUXILIARY_WEIGHT = 0.3  # GoogLeNet, Sec. 5
_IMAGES = 8192
_BYTES = 2**25
_ROOT = pathlib.Path(__file__).parents[2]


# --- this project's end ------------------------------------------------------------------------


class Child:
    """A PyTorch process that measures when asked.

    Raises UserError where the interpreter does not start or has no PyTorch.
    """

    def __init__(self, python: str, limit: float = 900.0):
        """limit: seconds that an answer may take, after which the process is restarted."""
        self.python, self.limit = python, limit
        self._start()

    def _start(self):
        path = os.pathsep.join(filter(None, (str(_ROOT), os.environ.get('PYTHONPATH'))))
        try:
            self._process = subprocess.Popen(
                [self.python, '-m', 'experiments.benchmark.pytorch'],
                cwd=_ROOT,
                env=os.environ | {'PYTHONPATH': path},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                start_new_session=True,  # Ctrl-C is ours to handle
            )
        except OSError as error:
            raise UserError(
                f'--torch_python {self.python} does not start ({reason(error)}); name '
                'an interpreter that has PyTorch.'
            ) from error
        assert self._process.stdin  # a pipe, as asked for
        self._requests = self._process.stdin
        self._answers: queue.Queue[str | None] = queue.Queue()
        self._complaints: list[str] = []
        for read in (self._read, self._listen):
            threading.Thread(target=read, args=(self._process,), daemon=True).start()
        hello = self._receive(120)
        if 'error' in hello:
            self.close()
            raise UserError(
                f'--torch_python {self.python} cannot measure: {hello["error"]}. Name '
                'an interpreter that has PyTorch.'
            )
        self.about = hello

    def _read(self, process):
        answers = self._answers
        for line in process.stdout:
            answers.put(line)
        answers.put(None)

    def _listen(self, process):
        complaints = self._complaints
        for line in process.stderr:
            complaints.append(line.strip())
            del complaints[:-20]

    def _receive(self, seconds):
        try:
            line = self._answers.get(timeout=seconds)
        except queue.Empty:
            return {'error': f'no answer within {seconds:g} s', 'gone': True}
        if line is None:
            self._process.wait()
            last = next((text for text in reversed(self._complaints) if text), 'no message')
            return {'error': f'it ended ({last})', 'gone': True}
        try:
            return json.loads(line)
        except ValueError:
            return {'error': f'it answered {line.strip()[:80]!r}', 'gone': True}

    def ask(self, **request: Any) -> dict:
        """The answer to a request, {'error': ...} where it has none; the next one still works."""
        try:
            self._requests.write(json.dumps(request) + '\n')
            self._requests.flush()
        except OSError:
            pass  # the reader says why
        answer = self._receive(self.limit)
        if answer.pop('gone', False):
            self.close(0)
            self._start()
        return answer

    def close(self, patience: float = 2.0) -> None:
        """Ends the process, by force if it takes longer than `patience` seconds."""
        with contextlib.suppress(OSError):
            self._requests.close()
        try:
            self._process.wait(patience)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class Children:
    """A process for the eager variants and, when it is needed, another for torch.compile.

    Eager steps were up to a third slower in a process that had compiled some.
    """

    def __init__(self, python: str):
        self._eager = Child(python)
        self._compiling: Child | None = None
        self.about = self._eager.about

    def ask(self, **request: Any) -> dict:
        """As Child.ask."""
        if 'compile' not in request['variant']:
            return self._eager.ask(**request)
        self._compiling = self._compiling or Child(self._eager.python)
        return self._compiling.ask(**request)

    def close(self) -> None:
        """Ends both."""
        for child in filter(None, (self._eager, self._compiling)):
            child.close()


# --- the process -------------------------------------------------------------------------------


class Step:
    """One net in one variant with its images: `run` does steps, `train` or `infer`."""

    def __init__(self, request: dict, torch: Any):
        from experiments.benchmark import torch_nets

        self.torch, self.batch = torch, request['batch']
        self.device = 'cuda' if torch.cuda.is_available() else 'cpu'
        torch.manual_seed(0)
        self.last = 'channels_last' in request['variant']
        net = torch_nets.build(
            request['net'],
            self.device,
            torch_nets.BENCHMARKED,
            classes=request['classes'],
            **request['fields'],
        )
        if self.last:
            net = net.to(memory_format=torch.channels_last)
        self.update = torch.optim.SGD(net.parameters(), lr=1e-3, momentum=0.9)
        self.net = torch.compile(net) if 'compile' in request['variant'] else net
        self.dtype = getattr(torch, request['dtype'])
        height, width, channels = request['input']
        count = max(min(_BYTES // (height * width * channels), _IMAGES), 8 * self.batch)
        # in the order of the layout, so that a gathered batch needs no other
        shape = (height, width, channels) if self.last else (channels, height, width)
        self.images = torch.randint(0, 256, (count, *shape), dtype=torch.uint8, device=self.device)
        self.labels = torch.randint(0, request['classes'], (count,), device=self.device)
        self.mean = torch.full((channels, 1, 1), 0.5, device=self.device)
        self.std = torch.full((channels, 1, 1), 0.29, device=self.device)
        self.rows = self.batches()

    def batches(self):
        """The rows of each batch, in a new order in every epoch."""
        while True:
            order = self.torch.randperm(len(self.images), device=self.device)
            yield from order.split(self.batch)[: len(order) // self.batch]

    def read(self):
        rows = next(self.rows)
        images = self.images[rows]
        if self.last:
            images = images.permute(0, 3, 1, 2)
        return (images.float() / 255 - self.mean) / self.std, self.labels[rows]

    def cast(self) -> contextlib.AbstractContextManager:
        if self.dtype == self.torch.float32:
            return contextlib.nullcontext()
        return self.torch.autocast(self.device, self.dtype)

    def train(self):
        functional = self.torch.nn.functional
        images, labels = self.read()
        with self.cast():
            outputs = self.net(images)
            logits, *others = outputs if isinstance(outputs, tuple) else (outputs,)
            loss = functional.cross_entropy(logits, labels)
            for other in others:
                loss = loss + _AUXILIARY_WEIGHT * functional.cross_entropy(other, labels)
        loss.backward()
        self.update.step()
        self.update.zero_grad()
        error = (logits.detach().argmax(1) != labels).float().mean()
        return loss.detach(), error

    def infer(self):
        images, labels = self.read()
        with self.torch.inference_mode(), self.cast():
            logits = self.net(images)
            loss = self.torch.nn.functional.cross_entropy(logits, labels)
            return loss, (logits.argmax(1) != labels).float().mean()

    def run(self, task: str, steps: int) -> list[list[float]]:
        """Does the steps and fetches their losses and errors, as at the end of an epoch."""
        self.net.train(task == 'train')
        one = self.train if task == 'train' else self.infer
        values = [self.torch.stack(one()) for _ in range(steps)]
        return self.torch.stack(values).tolist()


def _measure(step: Step, task: str, seconds: float) -> dict[str, Any]:
    """Steps for about so many seconds, at least 2, after one to warm up."""

    def run(steps: int) -> float:
        begin = time.perf_counter()
        step.run(task, steps)
        return time.perf_counter() - begin

    first, found = timed(run, step.batch, seconds)
    return found | {'warm_up': first}


def operation(torch: Any, request: dict, drawn: Callable[..., Any]) -> Callable[[], Any]:
    """A call of a part of operations.Operation, on what drawn(*shape) gives.

    It returns the layer or the gradient of a convolution; of other layers the result and the
    gradients of the input and, for batch norm, of scale and bias.
    """
    functional, grad = torch.nn.functional, torch.nn.grad
    n, height, width, channels = request['input']
    window, low = request['kernel'], request['kernel'] // 2
    x = drawn(n, channels, height, width)
    if request['kind'] == 'conv':
        kernel = drawn(request['features'], channels, window, window)
        y = drawn(n, request['features'], height, width)
        return {
            'layer': lambda: functional.conv2d(x, kernel, padding=low),
            'input gradient': lambda: grad.conv2d_input(x.shape, kernel, y, padding=low),
            'weight gradient': lambda: grad.conv2d_weight(x, kernel.shape, y, padding=low),
        }[request['part']]
    scale, bias = (drawn(channels).requires_grad_() for _ in range(2))
    x.requires_grad_()
    layer = {
        'max': lambda: functional.max_pool2d(x, window, 2, ceil_mode=True),
        'average': lambda: functional.avg_pool2d(
            x, window, 2, ceil_mode=True, count_include_pad=False
        ),
        'norm': lambda: functional.batch_norm(x, None, None, scale, bias, True),
    }[request['kind']]
    wanted = (x, scale, bias) if request['kind'] == 'norm' else (x,)
    y = drawn(*layer().shape)

    def call():
        value = layer()
        return value, *torch.autograd.grad(value, wanted, y)

    return call


def _seconds(torch: Any, request: dict) -> float:
    """Of one call of an operation, in channels_last."""
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    dtype = getattr(torch, request['dtype'])

    def drawn(*shape):
        made = torch.randn(*shape, device=device, dtype=dtype)
        return made.to(memory_format=torch.channels_last) if len(shape) == 4 else made

    call = operation(torch, request, drawn)

    def done():
        call()
        if device == 'cuda':
            torch.cuda.synchronize()

    return seconds_of(done, request['seconds'])


def serve(lines: Iterable[str], write: Callable[[dict], None]) -> None:
    """Answers requests until there are no more."""
    try:
        import torch
    except Exception as error:  # a broken installation may raise anything
        write({'error': reason(error)[:300]})
        return
    write(
        {
            'torch': torch.__version__,
            'threads': torch.get_num_threads(),
            'device': torch.cuda.get_device_name() if torch.cuda.is_available() else 'cpu',
        }
    )
    made: dict[tuple[str, str], Step] = {}
    for line in lines:
        try:
            request = json.loads(line)
            if request['task'] == 'operation':
                made.clear()
                write({'seconds': _seconds(torch, request)})
                continue
            task, seconds = request.pop('task'), request.pop('seconds')
            key = json.dumps(request, sort_keys=True)
            case = json.dumps(request | {'variant': ''}, sort_keys=True)
            if any(known != case for _, known in made):
                made.clear()  # another case begins
            if (key, case) not in made:
                made[key, case] = Step(request, torch)
            write(_measure(made[key, case], task, seconds))
        except Exception as error:
            write({'error': reason(error)[:300]})


def main() -> int:
    """Answers on standard output until standard input ends."""
    # What others print must not get between the answers
    answers = os.fdopen(os.dup(1), 'w')
    os.dup2(2, 1)

    def write(value):
        answers.write(json.dumps(value) + '\n')
        answers.flush()

    serve(sys.stdin, write)
    return 0


if __name__ == '__main__':
    sys.exit(main())
