"""Triton's interpreter with today's NumPy.

Authors
* speechbrain_lact contributors 2026
"""

from triton import knobs


def mend_interpreter():
    """Lets kernels run loops whose ends are arguments.

    Triton 3.6 turns arrays of one number into integers by `int`, which
    NumPy 2.4 refuses. Nothing is changed unless TRITON_INTERPRET is set.
    """
    if not knobs.runtime.interpret:
        return
    from triton.runtime import interpreter

    patch = interpreter._patch_lang_tensor

    def patch_tensor(tensor, scope):
        patch(tensor, scope)
        scope.set_attr(
            tensor, "__index__", lambda self: int(self.handle.data.item())
        )

    interpreter._patch_lang_tensor = patch_tensor
