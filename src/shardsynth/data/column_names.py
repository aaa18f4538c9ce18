"""What the name of a column says in the languages of hospitals: a person's name, address, number; a code; a reference.

A name is split into words: at underscores, blanks and digits, and where capitals begin. Accents and case do not count.
It says something if a word of it does, or all its words joined. What the column holds is decided by its values too
(``column_roles``).
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


#: Faker function -> names of columns, whole (words joined), that hold such values of a person.
_WHOLE = {
    "first_name": _words(
        # English, German, French, Spanish, Italian, Portuguese, Dutch
        "first firstname fname given givenname forename middle middlename vorname vornamen rufname prenom prenoms "
        "nombre nombres primernombre primeironome voornaam voornamen roepnaam "
        # Scandinavian, Finnish, Polish, Czech and Slovak, Hungarian, Romanian, Croatian, Turkish, Greek, Russian
        "fornavn fornamn tilltalsnamn etunimi etunimet imie imiona jmeno krestnijmeno meno keresztnev utonev prenume "
        "ime isim onoma imya 名 имя"
    ),
    "last_name": _words(
        "last lastname lname surname family familyname maiden maidenname birthname secondname nachname familienname "
        "geburtsname zuname nom nomdefamille nomdenaissance nomusage apellido apellidos apellidopaterno "
        "apellidomaterno primerapellido segundoapellido cognome sobrenome apelido achternaam geboortenaam "
        "efternavn etternavn efternamn sukunimi nazwisko prijmeni priezvisko vezeteknev csaladnev prezime soyad "
        "soyadi soyisim eponymo familiya 姓 фамилия"
    ),
    "name": _words(
        "name names fullname personname patientname patname ptname subjectname participantname nombrecompleto "
        "nombrepaciente nomprenom nomcomplet nomecompleto nomepaziente nomepaciente nomecognome naam patientnaam "
        "navn namn patientnamn nimi nev adsoyad adisoyadi 氏名 姓名 患者姓名 患者氏名 фио fio nextofkin "
        "physician doctor surgeon clinician attending attendingphysician referringphysician arzt hausarzt "
        "behandelnderarzt operateur einweiser medecin medecintraitant medico huisarts behandelaar lekarz lakare"
    ),
    "email": _words("email emails mail emailaddress mailadresse courriel correo correoelectronico epost sahkoposti"),
    "phone_number": _words(
        "phone phoneno phonenumber telephone telephonenumber tel telno telefon telefonnummer telefonnr telefono "
        "telefone telefoon telefoonnummer mobile mobileno mobil mobilnummer handy handynummer cell cellphone fax faxno "
        "gsm movil celular puhelin puhelinnumero telefonszam 电话 電話 電話番号 телефон"
    ),
    "street_address": _words(
        "address addr address1 addressline streetaddress street homeaddress mailingaddress residence strasse "
        "anschrift adresse wohnadresse adres adresa adress indirizzo direccion domicilio calle rue ruelle endereco "
        "morada rua straat gatuadress gateadresse katuosoite osoite ulica ulice utca lakcim adresi 住所 地址 адрес"
    ),
}
#: Names, whole, of columns that number persons, their stays or their documents.
_NUMBERS = _words(
    # studies and registers: CDISC, NHANES, UK Biobank, PLINK, TCGA
    "usubjid subjid subjectid subjid1 seqn eid ptid ptno iid fid bcrpatientbarcode submitterid sampleid "
    # hospitals
    "patientid patid patno patnum patnr patientno patientnumber patientnum pid personid persid mrn medicalrecord "
    "medicalrecordno medicalrecordnumber hospitalnumber hospitalno chartnumber chartno caseid casenumber caseno "
    "encounter encounterid hadmid stayid icustayid visitoccurrenceid accession accessionnumber "
    "patientennummer patientennr patientenid fallnummer fallnr fallid aufnahmenummer ipp nda nip numeropatient "
    "numerodossier historiaclinica nhc numerohistoria cartellaclinica prontuario patientnummer patientnr "
    "ziekenhuisnummer journalnummer nrpacjenta pesel "
    # numbers that a state or an insurance gives
    "ssn socialsecurity socialsecuritynumber nhs nhsno nhsnumber chi chinumber nino sin medicare medicareno "
    "medicaid passport passportno passportnumber nationalid driverslicense insuranceid insuranceno insurancenumber "
    "policynumber memberid subscriberid kvnr versichertennummer versichertennr versicherungsnummer ahv ahvnr "
    "ahvnummer svnr sozialversicherungsnummer steuerid steuernummer personalausweis nir numerosecu numsecu "
    "numerosecuritesociale ins dni nie nif nss cip curp codicefiscale tesserasanitaria cpf cns nus bsn "
    "burgerservicenummer personnummer personnr fodselsnummer cpr cprnr cprnummer hetu henkilotunnus rodnecislo taj "
    "tajszam cnp oib jmbg emso tckimlik tckimlikno tckn amka snils "
    "account accountno accountnumber iban creditcard creditcardnumber "
    "患者id 患者番号 身份证号 病历号 снилс"
)
_PERSONS = _words(
    "patient patients pat pt subject subj participant proband probands respondent person pers individual donor "
    "recipient beneficiary member insured resident newborn infant baby child "
    "mother father parent mutter vater mere pere madre padre moeder vader mor far twin sibling spouse partner "
    "guardian kin relative contact emergency "
    "referring referrer referred referral physician doctor surgeon nurse clinician provider attending prescriber "
    "performer practitioner arzt hausarzt medecin medico "
    "patienten paciente paziente pacjent pacient patientin versicherter"
)
#: Persons beside the one that a row is about: their numbers are references.
_OTHERS = _words(
    "mother father parent mutter vater mere pere madre padre moeder vader mor far twin sibling spouse partner guardian "
    "kin relative contact emergency referring referrer referred referral physician doctor surgeon nurse clinician "
    "provider attending prescriber performer practitioner arzt hausarzt medecin medico"
)
_ID_WORDS = _words(
    "id ids no nr num number nummer numero numer key code barcode identifier kennung kennzeichen pseudonym guid uuid"
)
_NAME_WORDS = _words("name names naam navn namn nom nome nombre nimi nev")
_VISITS = _words(
    "encounter visit admission hadm stay icustay episode case fall aufenthalt sejour ingreso record sample"
)
#: Words that make a column of whole numbers a code.
_CODES = _words(
    "code codes icd icd9 icd10 icdo snomed sct loinc rxnorm atc cpt hcpcs drg gdrg ndc cvx mesh umls cui hpo ebm "
    "concept zip zipcode plz postleitzahl postcode postal postalcode codepostal codigopostal psc kod kodi codigo "
    "codice cod schluessel schluesselnr fips naics isco nace icpc"
)
#: Words of things that a list names: with a word for a number they are a code, too.
_LISTED = _words(
    "specialty ward department dept site center centre hospital clinic facility unit test item procedure diagnosis "
    "drug medication product gender sex race ethnicity type class category group status region country state "
    "province county district language location room bed device"
)
_BIRTH = _words(
    "dob birth birthday birthdate dateofbirth geburtsdatum geburtstag geboren datenaissance naissance fechanacimiento "
    "nacimiento datanascita nascita datanascimento nascimento geboortedatum fodselsdato fodelsedatum syntymaaika "
    "dataurodzenia datumnarozeni szuletesidatum dogumtarihi"
)


@dataclass(frozen=True)
class Said:
    """What the name of a column says.

    Attributes:
        function: Faker function of a person's name or address; empty for others.
        number: ``person``: it numbers persons or what they have alone; ``visit``: it numbers stays or visits, perhaps
            within a person; ``id``: it is some identifier; empty for others.
        other: Whether the person is another one than the row is about: a mother, a physician.
        code: Whether it names a code.
        birth: Whether it is a date of birth.
    """

    function: str = ""
    number: str = ""
    other: bool = False
    code: bool = False
    birth: bool = False


def words_of(name: str) -> list[str]:
    """Words of a column's name, lower case, without accents and digits, in order."""
    plain = unicodedata.normalize("NFKD", name.replace("ß", "ss").replace("ł", "l").replace("ø", "o").replace("ı", "i"))
    text = "".join(c for c in plain if not unicodedata.combining(c))
    return [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[^\W\d_A-Za-z]+", text)]


def said_by(name: str) -> Said:
    """What the name of a column says."""
    words = words_of(name)
    joined, known = "".join(words), set(words)
    whole = {joined, _german(name)}
    birth = bool(whole & _BIRTH or known & _BIRTH)
    if birth and not known & _NAME_WORDS:
        return Said(birth=True)
    for function, names in _WHOLE.items():
        if whole & names or _numbered_part(known, names, function):
            return Said(function=function)
    if known & _PERSONS and known & _NAME_WORDS:
        return Said(function="name")
    if whole & _NUMBERS:
        return Said(number="person")
    is_id = bool(known & (_ID_WORDS - {"code"}))
    if known & _CODES or (known & _LISTED and known & _ID_WORDS):
        return Said(number="id" if is_id else "", code=True)
    for number, things in (("person", _PERSONS), ("visit", _VISITS)):
        if known & things and (known & _ID_WORDS or known <= _PERSONS | _VISITS):
            return Said(number=number, other=bool(known & _OTHERS))
    return Said(number="id" if is_id else "")


def _german(name: str) -> str:
    """The name with ae, oe and ue for its umlauts."""
    return "".join(words_of(name.replace("ä", "ae").replace("ö", "oe").replace("ü", "ue")))


def _numbered_part(known: set[str], names: frozenset[str], function: str) -> bool:
    """Whether a longer name ends or begins with an unmistakable word, such as home_phone or patient_first_name."""
    if function in ("email", "phone_number"):
        return bool(known & (names - {"mail", "tel", "cell", "handy", "mobile", "mobil"}))
    if function == "street_address" and not known & (_CODES | _LISTED | {"ip", "mac", "web", "city"}):
        return bool(known & {"address", "addr", "street", "strasse", "anschrift", "direccion", "indirizzo"})
    if function == "last_name":
        return {"last", "name"} <= known or bool(
            known & {"surname", "lastname", "nachname", "familienname", "geburtsname", "cognome", "apellido"}
        )
    if function == "first_name":
        return bool(known & {"firstname", "forename", "vorname", "prenom"}) or {"first", "name"} <= known
    return False
