"""Stand-in for ``slicer.parameterNodeWrapper``: typed parameters kept in a node, bound to widgets.

Known types: int, float, str, bool, Enum, Path, nodes, lists of these, and Optional of each. No ``parameterPack``.
"""

from .connectors import Decimals, SingleStep, createGuiConnector
from .serializers import Default
from .validators import Choice, Exclude, IsInstance, Maximum, Minimum, NotNone, Validator, WithinRange
from .wrapper import (
    SlicerParameterNamePropertyName,
    findChildWidgetForParameter,
    isParameterNodeWrapper,
    parameterNodeWrapper,
)

__all__ = [
    "Choice",
    "Decimals",
    "Default",
    "Exclude",
    "IsInstance",
    "Maximum",
    "Minimum",
    "NotNone",
    "SingleStep",
    "SlicerParameterNamePropertyName",
    "Validator",
    "WithinRange",
    "createGuiConnector",
    "findChildWidgetForParameter",
    "isParameterNodeWrapper",
    "parameterNodeWrapper",
]
