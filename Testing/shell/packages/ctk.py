"""Stand-in for the application's ``ctk``: the CTK widgets that scripted modules put in their panels."""

from shell.ctk_buttons import (
    ctkCheckBox,
    ctkCollapsibleButton,
    ctkCollapsibleGroupBox,
    ctkComboBox,
    ctkExpandButton,
    ctkMenuButton,
    ctkMessageBox,
    ctkPushButton,
)
from shell.ctk_inputs import (
    ctkDirectoryButton,
    ctkDoubleSlider,
    ctkDoubleSpinBox,
    ctkFittedTextBrowser,
    ctkPathLineEdit,
    ctkRangeWidget,
    ctkSearchBox,
    ctkSliderWidget,
)

__all__ = [
    "ctkCheckBox",
    "ctkCollapsibleButton",
    "ctkCollapsibleGroupBox",
    "ctkComboBox",
    "ctkDirectoryButton",
    "ctkDoubleSlider",
    "ctkDoubleSpinBox",
    "ctkExpandButton",
    "ctkFittedTextBrowser",
    "ctkMenuButton",
    "ctkMessageBox",
    "ctkPathLineEdit",
    "ctkPushButton",
    "ctkRangeWidget",
    "ctkSearchBox",
    "ctkSliderWidget",
]
