"""Stand-in for the Sample Data module: named sources that a module registers, and loading one by its name."""

from dataclasses import dataclass
from typing import Any

import slicer


@dataclass(eq=False)
class SampleDataSource:
    """One data set."""

    sampleName: str | None = None
    customDownloader: Any = None
    uris: Any = None
    fileNames: Any = None
    nodeNames: Any = None
    thumbnailFileName: str | None = None

    def __post_init__(self) -> None:
        if None in (self.uris, self.fileNames, self.nodeNames):
            raise TypeError(
                "object of type 'NoneType' has no len(): uris, fileNames and nodeNames are needed"
            )


class SampleDataLogic:
    """The data sets that were registered."""

    def __init__(self, logMessage: Any = None) -> None:
        self.logMessage = logMessage or print

    @staticmethod
    def registerCustomSampleDataSource(
        category: str = "Custom",
        sampleName: str | None = None,
        uris: Any = None,
        fileNames: Any = None,
        nodeNames: Any = None,
        customDownloader: Any = None,
        thumbnailFileName: str | None = None,
        loadFileTypes: Any = None,
        loadFiles: Any = None,
        loadFileProperties: Any = None,
        checksums: Any = None,
        loadFileType: Any = None,
    ) -> None:
        """Add a data set to a category."""
        source = SampleDataSource(sampleName, customDownloader, uris, fileNames, nodeNames, thumbnailFileName)
        sources = slicer.modules.sampleDataSources.setdefault(category, [])
        if not SampleDataLogic.isSampleDataSourceRegistered(category, source):
            sources.append(source)

    @staticmethod
    def sampleDataSourcesByCategory(category: str | None = None) -> Any:
        """All data sets, or those of a category."""
        every = slicer.modules.sampleDataSources
        return every if category is None else every.get(category, [])

    @staticmethod
    def isSampleDataSourceRegistered(category: str, sampleDataSource: SampleDataSource) -> bool:
        """Whether such a data set is known."""
        known = slicer.modules.sampleDataSources.get(category, [])
        return any(one.sampleName == sampleDataSource.sampleName for one in known)

    def sourceForSampleName(self, sampleName: str) -> SampleDataSource | None:
        """The data set of that name."""
        every = (one for sources in slicer.modules.sampleDataSources.values() for one in sources)
        return next((one for one in every if one.sampleName == sampleName), None)

    def downloadFromSource(self, source: SampleDataSource, *options: Any) -> list[Any]:
        """Make the data set; here only those that make themselves can be had."""
        if source.customDownloader is None:
            raise RuntimeError("The shell downloads nothing.")
        made = source.customDownloader(source)
        return list(made) if isinstance(made, list | tuple) else [made]
