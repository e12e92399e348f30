"""Stand-ins for CTK's inputs: sliders, paths, search. Members are those of the recorded application, no more."""

from typing import Any

from PySide6 import QtCore, QtGui, QtWidgets

from . import dialogs


def through(inner: str, kind: type, name: str, setter: str | None = None, getter: str | None = None) -> Any:
    """A Qt property that is one of an inner widget."""
    setter = setter or f"set{name[0].upper()}{name[1:]}"

    def read(self: Any) -> Any:
        return getattr(getattr(self, inner), getter or name)()

    def write(self: Any, value: Any) -> None:
        getattr(getattr(self, inner), setter)(value)

    return QtCore.Property(kind, read, write)


def kept(name: str, kind: Any) -> Any:
    """A Qt property that is only remembered, in the widget's ``_kept``."""
    return QtCore.Property(kind, lambda s: s._kept[name], lambda s, value: s._kept.__setitem__(name, value))


def row(widget: QtWidgets.QWidget) -> QtWidgets.QHBoxLayout:
    """A tight row of widgets as the layout of this one."""
    layout = QtWidgets.QHBoxLayout(widget)
    layout.setContentsMargins(0, 0, 0, 0)
    return layout


class ctkDoubleSpinBox(QtWidgets.QDoubleSpinBox):
    """A spin box for decimal numbers."""


class ctkDoubleSlider(QtWidgets.QWidget):
    """A slider for decimal numbers."""

    valueChanged = QtCore.Signal(float)
    sliderPressed = QtCore.Signal()
    sliderReleased = QtCore.Signal()

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self._slider = QtWidgets.QSlider(QtCore.Qt.Orientation.Horizontal)
        row(self).addWidget(self._slider)
        self._minimum, self._maximum, self._step, self._value = 0.0, 99.0, 1.0, 0.0
        self._tracking = True
        self._slider.valueChanged.connect(self._moved)
        self._slider.sliderPressed.connect(self.sliderPressed)
        self._slider.sliderReleased.connect(self.sliderReleased)
        self._scale()

    def _scale(self) -> None:
        self._slider.blockSignals(True)
        self._slider.setRange(0, max(1, round((self._maximum - self._minimum) / self._step)))
        self._slider.setValue(round((self._value - self._minimum) / self._step))
        self._slider.blockSignals(False)

    def _moved(self, position: int) -> None:
        self.setValue(min(self._minimum + position * self._step, self._maximum))

    def setValue(self, value: float) -> None:
        """Set the value, cut to the range."""
        value = min(max(float(value), self._minimum), self._maximum)
        changed, self._value = value != self._value, value
        self._scale()
        if changed:
            self.valueChanged.emit(value)

    def _set(self, name: str, number: float) -> None:
        setattr(self, name, float(number))
        self.setValue(self._value)

    value = QtCore.Property(float, lambda self: self._value, setValue)
    minimum = QtCore.Property(float, lambda self: self._minimum, lambda self, v: self._set("_minimum", v))
    maximum = QtCore.Property(float, lambda self: self._maximum, lambda self, v: self._set("_maximum", v))
    singleStep = QtCore.Property(float, lambda self: self._step, lambda self, v: self._set("_step", v))


class ctkSliderWidget(QtWidgets.QWidget):
    """A slider with a spin box beside it."""

    valueChanged = QtCore.Signal(float)
    valueIsChanging = QtCore.Signal(float)

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self._slider, self._spin = ctkDoubleSlider(), QtWidgets.QDoubleSpinBox()
        self._spin.setRange(0, 99)
        self._spin.setDecimals(0)
        layout = row(self)
        layout.addWidget(self._slider)
        layout.addWidget(self._spin)
        self._page_step = 10.0
        self._slider.valueChanged.connect(self._spin.setValue)
        self._spin.valueChanged.connect(self._slider.setValue)
        self._slider.valueChanged.connect(self.valueIsChanging)
        self._slider.valueChanged.connect(self.valueChanged)

    def setValue(self, value: float) -> None:
        """Set the value, cut to the range."""
        self._slider.setValue(value)

    def _set_number(self, name: str, number: float) -> None:
        self._slider.setProperty(name, number)
        getattr(self._spin, f"set{name[0].upper()}{name[1:]}")(number)

    value = QtCore.Property(float, lambda self: self._slider._value, setValue)
    minimum = QtCore.Property(float, lambda s: s._slider._minimum, lambda s, v: s._set_number("minimum", v))
    maximum = QtCore.Property(float, lambda s: s._slider._maximum, lambda s, v: s._set_number("maximum", v))
    singleStep = QtCore.Property(
        float, lambda s: s._slider._step, lambda s, v: s._set_number("singleStep", v)
    )
    pageStep = QtCore.Property(float, lambda s: s._page_step, lambda s, v: setattr(s, "_page_step", float(v)))
    decimals = through("_spin", int, "decimals")
    suffix = through("_spin", str, "suffix")
    prefix = through("_spin", str, "prefix")
    spinBoxVisible = QtCore.Property(
        bool, lambda s: not s._spin.isHidden(), lambda s, v: s._spin.setVisible(v)
    )
    tracking = QtCore.Property(bool, lambda self: True, lambda self, value: None)

    def setDecimals(self, decimals: int) -> None:
        """Digits after the point."""
        self._spin.setDecimals(decimals)

    def setSpinBoxVisible(self, visible: bool) -> None:
        """Show or hide the number."""
        self._spin.setVisible(visible)


class ctkRangeWidget(QtWidgets.QWidget):
    """Two numbers that bound a range."""

    valuesChanged = QtCore.Signal(float, float)

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self._low, self._high = QtWidgets.QDoubleSpinBox(), QtWidgets.QDoubleSpinBox()
        layout = row(self)
        for box in (self._low, self._high):
            layout.addWidget(box)
            box.valueChanged.connect(lambda _: self.valuesChanged.emit(self._low.value(), self._high.value()))

    def setValues(self, low: float, high: float) -> None:
        """Set both ends."""
        self._low.setValue(low)
        self._high.setValue(high)

    def setRange(self, minimum: float, maximum: float) -> None:
        """What both ends may be."""
        self._low.setRange(minimum, maximum)
        self._high.setRange(minimum, maximum)

    minimumValue = through("_low", float, "value")
    maximumValue = through("_high", float, "value")


class ctkPathLineEdit(QtWidgets.QWidget):
    """A path to type, to choose from those used before, or to browse for."""

    currentPathChanged = QtCore.Signal(str)
    validInputChanged = QtCore.Signal(bool)
    Dirs, Files, Readable, Writable, Executable = 0x1, 0x2, 0x10, 0x20, 0x40
    AllEntries, Drives, Hidden, NoDot, NoDotDot, NoDotAndDotDot = 0x7, 0x4, 0x100, 0x2000, 0x4000, 0x6000
    ShowDirsOnly = 0x1

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self._combo, self._browse = QtWidgets.QComboBox(), QtWidgets.QToolButton()
        self._combo.setEditable(True)
        self._combo.setSizePolicy(QtWidgets.QSizePolicy.Policy.Expanding, QtWidgets.QSizePolicy.Policy.Fixed)
        self._combo.setMinimumContentsLength(0)
        self._combo.setSizeAdjustPolicy(
            QtWidgets.QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
        )
        self._browse.setText("…")
        layout = row(self)
        layout.addWidget(self._combo)
        layout.addWidget(self._browse)
        self._kept: dict[str, Any] = {
            "filters": 0x7,
            "nameFilters": [],
            "settingKey": "",
            "label": "",
            "options": 0,
        }
        self._browse.clicked.connect(self.browse)
        self._combo.editTextChanged.connect(self.currentPathChanged)

    filters = kept("filters", int)
    nameFilters = kept("nameFilters", "QStringList")
    settingKey = kept("settingKey", str)
    label = kept("label", str)
    options = kept("options", int)

    def setCurrentPath(self, path: str) -> None:
        """Set the path."""
        self._combo.setEditText(path)

    currentPath = QtCore.Property(str, lambda self: self._combo.currentText(), setCurrentPath)
    showHistoryButton = QtCore.Property(bool, lambda self: True, lambda self, shown: None)
    showBrowseButton = QtCore.Property(
        bool, lambda self: not self._browse.isHidden(), lambda self, shown: self._browse.setVisible(shown)
    )

    def browse(self) -> None:
        """Ask for the path."""
        path = dialogs.ANSWERS.path()
        if path:
            self.setCurrentPath(path)

    def addCurrentPathToHistory(self) -> None:
        """Remember the path among those used before."""
        if self._combo.findText(self._combo.currentText()) < 0:
            self._combo.addItem(self._combo.currentText())

    def comboBox(self) -> QtWidgets.QComboBox:
        """The combo box inside."""
        return self._combo


class ctkDirectoryButton(QtWidgets.QWidget):
    """A button that shows a folder and asks for another."""

    directoryChanged = QtCore.Signal(str)
    directorySelected = QtCore.Signal(str)

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self._button = QtWidgets.QPushButton(".")
        self._button.setIcon(self.style().standardIcon(QtWidgets.QStyle.StandardPixmap.SP_DirIcon))
        row(self).addWidget(self._button)
        self._button.clicked.connect(self.browse)
        self._caption = ""

    def _set_directory(self, path: str) -> None:
        if path != self._button.text():
            self._button.setText(path)
            self.directoryChanged.emit(path)

    directory = QtCore.Property(str, lambda self: self._button.text(), _set_directory)
    caption = QtCore.Property(str, lambda s: s._caption, lambda s, text: setattr(s, "_caption", text))
    text = through("_button", str, "text")

    def browse(self) -> None:
        """Ask for the folder."""
        path = dialogs.ANSWERS.path()
        if path:
            self._set_directory(path)
            self.directorySelected.emit(path)


class ctkSearchBox(QtWidgets.QLineEdit):
    """A line to type what is searched for."""


class ctkFittedTextBrowser(QtWidgets.QTextBrowser):
    """A text that is as high as its contents."""

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self.setVerticalScrollBarPolicy(QtCore.Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setSizePolicy(QtWidgets.QSizePolicy.Policy.Expanding, QtWidgets.QSizePolicy.Policy.Fixed)
        self.textChanged.connect(self.updateGeometry)

    def heightForWidth(self, width: int) -> int:
        document = self.document().clone()
        document.setTextWidth(width - 2 * self.frameWidth())
        return int(document.size().height()) + 2 * self.frameWidth()

    def sizeHint(self) -> QtCore.QSize:
        width = max(self.width(), 200)
        return QtCore.QSize(width, self.heightForWidth(width))

    minimumSizeHint = sizeHint

    def resizeEvent(self, event: QtGui.QResizeEvent) -> None:
        super().resizeEvent(event)
        self.updateGeometry()

    def setCollapsibleText(self, text: str) -> None:
        """Set a text of which only the beginning shows at first."""
        self.setText(text)
