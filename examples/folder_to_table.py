"""Label a whole folder into a table: `python examples/folder_to_table.py [folder]`; a CSV where pandas is not installed."""

import csv
import sys
from pathlib import Path

import audiorep

folder = sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent.parent / "samples"
rows = audiorep.load()([folder]).rows(view="file")  # a file that cannot be used has a row with its error
try:
    import pandas

    print(pandas.DataFrame(rows)[["path", "label", "score", "error"]])
except ImportError:
    writer = csv.DictWriter(sys.stdout, fieldnames=list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
