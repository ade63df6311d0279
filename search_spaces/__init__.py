"""What may vary in a sweep: spaces, architectures, initialisations and tasks.

Importing it, and parsing a space, needs neither torch nor scikit-learn: building a model and
loading data do.
"""

from search_spaces.architecture import fresh_parts, rate_scales
from search_spaces.architectures import (
    Architecture,
    architecture_names,
    get_architecture,
    source_of,
)
from search_spaces.common import COMMON
from search_spaces.dimensions import (
    Choice,
    Dimension,
    FloatRange,
    IntRange,
    Scalar,
    parse_dimension,
)
from search_spaces.errors import SpaceError
from search_spaces.grid import Grid
from search_spaces.initialisations import INITIALISATIONS, initialise
from search_spaces.plugins import code_hash, is_import_path
from search_spaces.point import member, parse_point
from search_spaces.setting import Setting
from search_spaces.shape import TaskShape
from search_spaces.space import Row, Space
from search_spaces.tasks import (
    ClassificationTask,
    LanguageTask,
    Metric,
    Part,
    RegressionTask,
    Splits,
    Task,
    TaskKind,
    adopt_task,
    classification_splits,
    forget_task,
    get_task,
    regression_splits,
    task_files,
    task_identity,
    task_kinds,
    task_metric,
    task_name,
    task_names,
    task_spec,
)

__all__ = [
    "COMMON",
    "INITIALISATIONS",
    "Architecture",
    "Choice",
    "ClassificationTask",
    "Dimension",
    "FloatRange",
    "Grid",
    "IntRange",
    "LanguageTask",
    "Metric",
    "Part",
    "RegressionTask",
    "Row",
    "Scalar",
    "Setting",
    "Space",
    "SpaceError",
    "Splits",
    "Task",
    "TaskKind",
    "TaskShape",
    "adopt_task",
    "architecture_names",
    "classification_splits",
    "code_hash",
    "forget_task",
    "fresh_parts",
    "get_architecture",
    "get_task",
    "initialise",
    "is_import_path",
    "member",
    "parse_dimension",
    "parse_point",
    "rate_scales",
    "regression_splits",
    "source_of",
    "task_files",
    "task_identity",
    "task_kinds",
    "task_metric",
    "task_name",
    "task_names",
    "task_spec",
]
