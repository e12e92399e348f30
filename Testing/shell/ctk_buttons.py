"""Stand-ins for CTK's buttons, boxes and sections. Members are those of the recorded application, no more."""

from PySide6 import QtCore, QtGui, QtWidgets

from . import dialogs

HEADER_PX = 24


class ctkCollapsibleButton(QtWidgets.QAbstractButton):
    """A section of a panel: a title bar that folds what lies below it away."""

    contentsCollapsed = QtCore.Signal(bool)

    def __init__(self, parent: QtWidgets.QWidget | None = None, text: str = "") -> None:
        if isinstance(parent, str):
            parent, text = None, parent
        super().__init__(parent)
        self.setText(text)
        self.setCheckable(True)
        self.setChecked(True)
        self.setSizePolicy(QtWidgets.QSizePolicy.Policy.Preferred, QtWidgets.QSizePolicy.Policy.Preferred)
        self.setContentsMargins(0, HEADER_PX, 0, 0)
        self._wanted: dict[QtWidgets.QWidget, bool] = {}
        self._folding = False
        self.toggled.connect(self._fold)

    def _is_collapsed(self) -> bool:
        return not self.isChecked()

    def _set_collapsed(self, collapsed: bool) -> None:
        self.setChecked(not collapsed)

    collapsed = QtCore.Property(bool, _is_collapsed, _set_collapsed)
    collapsedHeight = QtCore.Property(int, lambda self: 10, lambda self, height: None)
    contentsFrameShape = QtCore.Property(int, lambda self: 0, lambda self, shape: None)
    contentsFrameShadow = QtCore.Property(int, lambda self: 0, lambda self, shadow: None)
    contentsLineWidth = QtCore.Property(int, lambda self: 1, lambda self, width: None)
    contentsMidLineWidth = QtCore.Property(int, lambda self: 0, lambda self, width: None)
    buttonTextAlignment = QtCore.Property(int, lambda self: 0x81, lambda self, alignment: None)
    indicatorAlignment = QtCore.Property(int, lambda self: 0x81, lambda self, alignment: None)
    flat = QtCore.Property(bool, lambda self: False, lambda self, flat: None)

    def _fold(self, opened: bool) -> None:
        self._adopt()
        self._folding = True
        for child, wanted in self._wanted.items():
            child.setVisible(opened and wanted)
        self._folding = False
        self.setMaximumHeight(0xFFFFFF if opened else HEADER_PX)
        self.updateGeometry()
        self.contentsCollapsed.emit(not opened)

    def _adopt(self) -> None:
        """Watch the children as CTK does: what is shown while the section is closed appears when it is opened."""
        found = self.findChildren(QtWidgets.QWidget, options=QtCore.Qt.FindChildOption.FindDirectChildrenOnly)
        self._wanted = {child: self._wanted[child] for child in found if child in self._wanted}
        for child in found:
            if child not in self._wanted:
                explicit = child.testAttribute(QtCore.Qt.WidgetAttribute.WA_WState_ExplicitShowHide)
                self._wanted[child] = not (explicit and child.isHidden())
                child.installEventFilter(self)
                if not self.isChecked():
                    self._folding = True
                    child.hide()
                    self._folding = False

    def eventFilter(self, child: QtCore.QObject, event: QtCore.QEvent) -> bool:
        if not self._folding and child in self._wanted:
            if event.type() == QtCore.QEvent.Type.ShowToParent:
                self._wanted[child] = True
                if not self.isChecked():
                    self._folding = True
                    child.hide()
                    self._folding = False
            elif event.type() == QtCore.QEvent.Type.HideToParent:
                self._wanted[child] = False
        return False

    def childEvent(self, event: QtCore.QChildEvent) -> None:
        # The child is still being made here: PySide6 would take it for a plain QWidget for ever.
        QtCore.QTimer.singleShot(0, self, self._adopt)

    def sizeHint(self) -> QtCore.QSize:
        layout = self.layout()
        contents = layout.totalSizeHint() if layout and self.isChecked() else QtCore.QSize(0, HEADER_PX)
        return contents.expandedTo(
            QtCore.QSize(self.fontMetrics().horizontalAdvance(self.text()) + 40, HEADER_PX)
        )

    def minimumSizeHint(self) -> QtCore.QSize:
        layout = self.layout()
        return layout.totalMinimumSize() if layout and self.isChecked() else QtCore.QSize(0, HEADER_PX)

    def hitButton(self, position: QtCore.QPoint) -> bool:
        return position.y() < HEADER_PX

    def paintEvent(self, event: QtGui.QPaintEvent) -> None:
        painter = QtWidgets.QStylePainter(self)
        option = QtWidgets.QStyleOptionButton()
        option.initFrom(self)
        option.rect = QtCore.QRect(0, 0, self.width(), HEADER_PX)
        if self.isDown():
            option.state |= QtWidgets.QStyle.StateFlag.State_Sunken
        painter.drawControl(QtWidgets.QStyle.ControlElement.CE_PushButtonBevel, option)
        option.rect = QtCore.QRect(6, (HEADER_PX - 11) // 2, 11, 11)
        arrow = "PE_IndicatorArrowDown" if self.isChecked() else "PE_IndicatorArrowRight"
        painter.drawPrimitive(getattr(QtWidgets.QStyle.PrimitiveElement, arrow), option)
        place = QtCore.QRect(24, 0, self.width() - 28, HEADER_PX)
        flags = QtCore.Qt.AlignmentFlag.AlignVCenter | QtCore.Qt.TextFlag.TextShowMnemonic
        painter.drawItemText(place, flags, self.palette(), self.isEnabled(), self.text())


class ctkCollapsibleGroupBox(QtWidgets.QGroupBox):
    """A group box that folds."""

    def __init__(self, parent: QtWidgets.QWidget | str | None = None) -> None:
        super().__init__(parent) if parent is not None else super().__init__()
        self.setCheckable(True)
        self._hidden: list[QtWidgets.QWidget] = []
        self.toggled.connect(self._fold)

    def _is_collapsed(self) -> bool:
        return not self.isChecked()

    def _set_collapsed(self, collapsed: bool) -> None:
        self.setChecked(not collapsed)

    collapsed = QtCore.Property(bool, _is_collapsed, _set_collapsed)
    collapsedHeight = QtCore.Property(int, lambda self: 14, lambda self, height: None)

    def _fold(self, opened: bool) -> None:
        children = self.findChildren(
            QtWidgets.QWidget, options=QtCore.Qt.FindChildOption.FindDirectChildrenOnly
        )
        if opened:
            for child in self._hidden:
                child.setVisible(True)
        else:
            self._hidden = [child for child in children if not child.isHidden()]
            for child in self._hidden:
                child.hide()
        self.setMaximumHeight(0xFFFFFF if opened else 20)
        for child in children:
            child.setEnabled(True)

    def paintEvent(self, event: QtGui.QPaintEvent) -> None:
        painter = QtWidgets.QStylePainter(self)
        option = QtWidgets.QStyleOptionGroupBox()
        self.initStyleOption(option)
        option.subControls &= ~QtWidgets.QStyle.SubControl.SC_GroupBoxCheckBox
        option.text = "     " + option.text
        painter.drawComplexControl(QtWidgets.QStyle.ComplexControl.CC_GroupBox, option)
        arrow_option = QtWidgets.QStyleOption()
        arrow_option.initFrom(self)
        arrow_option.rect = QtCore.QRect(6, 3, 11, 11)
        arrow = "PE_IndicatorArrowDown" if self.isChecked() else "PE_IndicatorArrowRight"
        painter.drawPrimitive(getattr(QtWidgets.QStyle.PrimitiveElement, arrow), arrow_option)


class ctkMessageBox(QtWidgets.QMessageBox):
    """A message box, answered by the test."""

    def exec(self) -> int:
        return dialogs.ANSWERS.message(self.text(), self.icon().name)

    exec_ = exec

    dontShowAgain = QtCore.Property(bool, lambda self: False, lambda self, value: None)
    dontShowAgainSettingsKey = QtCore.Property(str, lambda self: "", lambda self, key: None)
    dontShowAgainVisible = QtCore.Property(bool, lambda self: False, lambda self, value: None)


class ctkCheckBox(QtWidgets.QCheckBox):
    """A check box with an icon of its own."""


class ctkPushButton(QtWidgets.QPushButton):
    """A push button with a choice of text alignment."""


class ctkMenuButton(QtWidgets.QPushButton):
    """A push button with a menu at its side."""


class ctkExpandButton(QtWidgets.QToolButton):
    """A small arrow that expands something."""

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self.setCheckable(True)
        self.setArrowType(QtCore.Qt.ArrowType.RightArrow)


class ctkComboBox(QtWidgets.QComboBox):
    """A combo box with a text for "nothing chosen"."""

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self._default_text = ""

    def _get_default_text(self) -> str:
        return self._default_text

    def _set_default_text(self, text: str) -> None:
        self._default_text = text
        self.setPlaceholderText(text)

    defaultText = QtCore.Property(str, _get_default_text, _set_default_text)
    forceDefault = QtCore.Property(bool, lambda self: False, lambda self, value: None)
