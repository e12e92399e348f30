"""From tables and folders to a study: who is in, who is out and why, which hand film belongs to which knee film.

The way of a row: `table`, `manifest`, `layouts` (read) → `inspection` (open each film) → `joining` (patients and
films) → `rules` and `pairing` → `split` → `flow`, `picture` → `study` (write, open, check). `building` walks it,
`command` is the command line.

The manifest for one's own data
-------------------------------
CSV files (UTF-8; comma, semicolon or tab), one header line, columns in any order. Empty cells, ``NA`` and ``nan`` are
missing values. Columns that are not named here are ignored and listed in study.json.

``--patients``, one row a child; optional, but only here the exclusions of a child can be stated:

=====================  ==========================================================================================
patient_id             required; any text
sex                    F or M (female, male)
birth_date             YYYY-MM-DD; gives the age on a film's date; never written to a study
family_id              children of one family never cross a split
physeal_trauma         yes or no (1/0, true/false): previous physeal trauma about the knee
skeletal_dysplasia     yes or no
genetic_disorder       yes or no: another genetic disorder
endocrinopathy         yes or no
=====================  ==========================================================================================

``--knees``, ``--hands``, ``--films``: one row a film (or one row a side of a bilateral film):

=====================  ==========================================================================================
file                   required; relative to the folder of the table
patient_id             required, unless the file is DICOM: then its PatientID is used where the cell is empty
part                   knee or hand; only read, and then required, with ``--films``
date                   YYYY-MM-DD
age_months             chronological age on that date; without it: from birth_date and date, or from the header
sex                    F or M; where there is no patients table
side                   R, L or B (both)
view                   frontal, lateral or other
bone_age_months        a reader's bone age
split                  train or test; used with ``--test-split given``
physeal_trauma, …      the four exclusions, of this film alone (a trauma of one knee)
=====================  ==========================================================================================

Each of the three also takes a folder, which is walked for films: DICOM files say themselves who, when and which side.
What a table says wins over a header. A film needs an age for the age rule (hand films with a bone age may lack it when
nothing is paired), and a date or an age in months for pairing.
"""
