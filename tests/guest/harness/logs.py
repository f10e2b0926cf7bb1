# SPDX-License-Identifier: GPL-2.0-or-later
"""What becomes of the folders of QEMUs that a failure leaves behind."""

import shutil
from pathlib import Path


def keep(results, logs):
    """
    Copy the folder @logs into @results, which may be None.  Returns where
    they are now.
    """
    if not results:
        return logs
    kept = results / 'logs'
    shutil.rmtree(kept, ignore_errors=True)
    # Sockets cannot be copied and say nothing.
    shutil.copytree(logs, kept, ignore=lambda folder, names: [
        n for n in names if (Path(folder) / n).is_socket()])
    return kept
